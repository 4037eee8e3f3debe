// Publishes each order to its own channel, as examples/orders does in Rust.
package main

import (
	"encoding/json"
	"fmt"

	"orders/slipring"
)

type order struct {
	ID       *uint64 `json:"id"`
	Revision *uint64 `json:"revision"`
	Status   string  `json:"status"`
	Lines    []line  `json:"lines"`
}

type line struct {
	Quantity   *uint32 `json:"quantity"`
	PriceCents *uint32 `json:"price_cents"`
}

// The data that subscribers see.
type view struct {
	Status     string `json:"status"`
	Items      uint64 `json:"items"`
	TotalCents uint64 `json:"total_cents"`
}

func init() { slipring.Transform(orders) }

// Go requires main, but it never runs in a module.
func main() {}

func orders(message slipring.Message) ([]slipring.Publication, error) {
	var order order
	if err := json.Unmarshal(message.Payload, &order); err != nil {
		return nil, err
	}
	switch order.Status {
	case "draft", "paid", "shipped", "delivered":
	default:
		return nil, fmt.Errorf("status: %q is none of draft, paid, shipped, delivered", order.Status)
	}
	if order.ID == nil || order.Revision == nil || order.Lines == nil {
		return nil, fmt.Errorf("an order has to have id, revision and lines")
	}
	view := view{Status: order.Status}
	for i, line := range order.Lines {
		if line.Quantity == nil || line.PriceCents == nil {
			return nil, fmt.Errorf("lines: %d has to have quantity and price_cents", i)
		}
		view.Items += uint64(*line.Quantity)
		view.TotalCents += uint64(*line.Quantity) * uint64(*line.PriceCents)
	}
	if order.Status == "draft" {
		return nil, nil
	}
	publication, err := slipring.NewPublication(fmt.Sprintf("orders:%d", *order.ID), view)
	publication.Version = *order.Revision
	return []slipring.Publication{publication}, err
}
