// Package slipring is the SDK for transforms in Go. Register your function with [Transform]. The package passes each
// message to it, and its result to the relay.
package slipring

import "encoding/json"

// Message is a message from JetStream or Redis.
type Message struct {
	Subject string
	Payload []byte
	// Sorted by name. A name may occur more than once; its values keep the order of the message.
	Headers []Pair
	// The name of the stream, or the key in Redis.
	StreamName string
	// The sequence in the stream. In Redis, the ID as one number, or 0 if it does not fit.
	Sequence uint64
	// The time at which the message was stored, or taken from a list in Redis, in nanoseconds since 1970.
	Timestamp uint64
	// How often the message has been delivered. 1 is the first time. From Redis, it is 2 whenever the message is redelivered.
	Deliveries uint32
}

// IsMarker returns true if the message has no payload because a key was deleted or expired: in a key-value bucket,
// or in a stream whose messages expire.
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

// Publication is data for one or more channels. The zero value of an optional field leaves it out.
type Publication struct {
	// One channel is a publish, several are a broadcast, none publishes nothing.
	Channels []string
	// A JSON text. The relay validates it and passes it on unchanged.
	JSON []byte
	// Replaces JSON if it is not nil.
	Binary       []byte
	Version      uint64
	VersionEpoch string
	Tags         []Pair
	// Replaces the relay's own key.
	IdempotencyKey string
	Delta          bool
	SkipHistory    bool
}

// NewPublication returns a publication of value, as JSON, for channel.
func NewPublication(channel string, value any) (Publication, error) {
	text, err := json.Marshal(value)
	return Publication{Channels: []string{channel}, JSON: text}, err
}

var (
	configure = func([]byte) error { return nil }
	transform func(Message) ([]Publication, error)
)

// Init registers the function that receives the module's settings, a JSON object. It is called once per instance,
// before the first message. An error refuses the settings.
func Init(function func(settings []byte) error) { configure = function }

// Transform registers the function that receives each message. An empty result drops the message. An error rejects
// it, with the error's text as the reason. Call Transform in an init function, because a module's main does not run.
func Transform(function func(Message) ([]Publication, error)) { transform = function }
