// Fails in the way that a message's subject names, to see what the relay says of it.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"example.com/failing/slipring"
)

type order struct{ Customer *customer }
type customer struct{ Name string }
type trouble struct{ code int }

func (t trouble) Error() string { return fmt.Sprintf("trouble %d", t.code) }

var counts map[string]int

func init() {
	slipring.Init(func(settings []byte) error {
		if strings.Contains(string(settings), "fail") {
			panic("bad settings: " + string(settings))
		}
		return nil
	})
	slipring.Transform(transform)
}

func main() {}

func transform(message slipring.Message) ([]slipring.Publication, error) {
	payload := string(message.Payload)
	switch message.Subject {
	case "panic":
		panic("boom: " + payload)
	case "nil":
		var order order
		fmt.Println(order.Customer.Name)
	case "index":
		fmt.Println(message.Payload[len(payload)])
	case "error":
		panic(fmt.Errorf("reading: %w", errors.New(payload)))
	case "custom":
		panic(trouble{7})
	case "value":
		panic(order{})
	case "map":
		counts[payload]++
	case "divide":
		fmt.Println(1 / len(strings.TrimSpace("")))
	case "lines":
		panic("one\n\ntwo " + payload)
	case "again":
		defer func() { panic(fmt.Sprint("again: ", recover())) }()
		panic("first")
	case "logged":
		func() {
			defer func() { fmt.Fprintln(os.Stderr, "panic:", recover()) }()
			panic("an old one")
		}()
		for range 100 {
			fmt.Fprintln(os.Stderr, strings.Repeat("x", 100))
		}
		panic("the new one")
	case "deep":
		deep(30)
	case "library":
		fmt.Println(strings.Repeat("x", -len(message.Subject)))
	case "unmarshal":
		json.Unmarshal(message.Payload, bad{})
		panic(json.NewEncoder(nil).Encode(1))
	case "deadlock":
		<-make(chan int)
	case "goroutine":
		done := make(chan int)
		go func() { panic("in a goroutine") }()
		<-done
	case "sleep":
		time.Sleep(time.Millisecond)
	case "exit":
		os.Exit(3)
	case "fatal":
		log.Fatal("no such order: " + payload)
	case "recursion":
		fmt.Println(recursion(1))
	case "memory":
		var all [][]byte
		for {
			all = append(all, make([]byte, 1<<20))
		}
	}
	return nil, nil
}

type bad struct{}

func deep(n int) {
	if n == 0 {
		panic("deep down")
	}
	deep(n - 1)
}

func recursion(n int) int { return recursion(n+1) + n }
