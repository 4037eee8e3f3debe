// Package slipring is what a transform in Go is written with. [Transform] says which function it is; the rest of the package
// hands messages to it and what it returns to the relay.
package slipring

import "encoding/json"

// Message is what JetStream delivered.
type Message struct {
	Subject string
	Payload []byte
	// By name, in alphabetical order; a name may come more than once, with its values in the order of the message.
	Headers    []Pair
	StreamName string
	// Of the stream.
	Sequence uint64
	// When JetStream stored it, nanoseconds since 1970.
	Timestamp uint64
	// 1 the first time.
	Deliveries uint32
}

// IsMarker tells whether the message has no payload because a key was deleted or expired, in a key-value bucket or where messages
// expire.
func (message Message) IsMarker() bool {
	for _, header := range message.Headers {
		if header.Name == "Nats-Marker-Reason" || header.Name == "KV-Operation" && header.Value != "PUT" {
			return true
		}
	}
	return false
}

// Pair is a header of a message or a tag of a publication.
type Pair struct{ Name, Value string }

// Publication is what a message becomes. The zero value of each optional field leaves it out.
type Publication struct {
	// One: publish; more: broadcast.
	Channels []string
	// A JSON text. The relay validates it and passes it on as it is.
	JSON []byte
	// Instead of JSON, if it is not nil.
	Binary       []byte
	Version      uint64
	VersionEpoch string
	Tags         []Pair
	// Instead of the relay's own.
	IdempotencyKey string
	Delta          bool
	SkipHistory    bool
}

// NewPublication makes value the JSON of a publication on channel.
func NewPublication(channel string, value any) (Publication, error) {
	text, err := json.Marshal(value)
	return Publication{Channels: []string{channel}, JSON: text}, err
}

var (
	configure = func([]byte) error { return nil }
	transform func(Message) ([]Publication, error)
)

// Init names the function that gets the module's settings, a JSON object, once an instance and before the first message. An
// error refuses them.
func Init(function func(settings []byte) error) { configure = function }

// Transform names the function that gets each message. No publications drop it; an error rejects it and says why. Call this in
// an init function: a module's main does not run.
func Transform(function func(Message) ([]Publication, error)) { transform = function }
