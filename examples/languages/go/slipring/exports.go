//go:build wasip1

package slipring

import (
	"encoding/binary"
	"unsafe"
)

// The functions of the world slipring:transform. Their parameters and results follow the component model's canonical
// ABI: https://github.com/WebAssembly/component-model/blob/main/design/mvp/CanonicalABI.md. They are written by hand
// because the packages that `wit-bindgen go` 0.63 uses require Go 1.27, and because their types would show in this
// package's API.

//go:wasmexport init
func exportInit(settings unsafe.Pointer, length uint32) unsafe.Pointer {
	reset()
	return result(nil, configure(unsafe.Slice((*byte)(settings), length)))
}

//go:wasmexport transform
func exportTransform(
	subject unsafe.Pointer, subjectLength uint32, payload unsafe.Pointer, payloadLength uint32,
	headers unsafe.Pointer, headerCount uint32, stream unsafe.Pointer, streamLength uint32,
	sequence, timestamp uint64, deliveries uint32,
) unsafe.Pointer {
	message := Message{
		Subject:    text(subject, subjectLength),
		Payload:    unsafe.Slice((*byte)(payload), payloadLength),
		Headers:    make([]Pair, headerCount),
		StreamName: text(stream, streamLength),
		Sequence:   sequence,
		Timestamp:  timestamp,
		Deliveries: deliveries,
	}
	for i := range message.Headers {
		pair := unsafe.Slice((*[4]uint32)(headers), headerCount)[i]
		message.Headers[i] = Pair{text(pointer(pair[0]), pair[1]), text(pointer(pair[2]), pair[3])}
	}
	reset()
	publications, err := transform(message)
	return result(publications, err)
}

// The memory that was passed to the call and the memory that it returned. Both are kept here because Go's garbage
// collector does not see the relay's references. The collector moves nothing, so addresses stay valid.
var passed, returned []any

// Releases both. From here on, only the message refers to the memory that was passed.
func reset() {
	clear(passed)
	passed = passed[:0]
	clear(returned)
	returned = returned[:0]
}

func text(at unsafe.Pointer, length uint32) string { return unsafe.String((*byte)(at), length) }

func pointer(address uint32) unsafe.Pointer { return unsafe.Add(unsafe.Pointer(nil), address) }

// The size of a `publication` in a list, in bytes.
const publicationSize = 80

// Returns a `result<list<publication>, string>`, which serves as the `result<_, string>` of `init` too.
func result(publications []Publication, err error) unsafe.Pointer {
	bytes := make(record, 12)
	if err != nil {
		bytes[0] = 1
		bytes.bytes(4, []byte(err.Error()))
		return bytes.keep()
	}
	list := make(record, publicationSize*len(publications))
	for i, publication := range publications {
		list[publicationSize*i:].publication(publication)
	}
	bytes.list(4, list, len(publications))
	return bytes.keep()
}

// A part of the returned memory. Its methods write at an offset.
type record []byte

func (r record) publication(p Publication) {
	channels := make(record, 8*len(p.Channels))
	for i, channel := range p.Channels {
		channels.bytes(8*i, []byte(channel))
	}
	r.list(0, channels, len(p.Channels))
	if p.Binary == nil {
		r.bytes(12, p.JSON)
	} else {
		r[8] = 1
		r.bytes(12, p.Binary)
	}
	if p.Version != 0 {
		r[24] = 1
		binary.LittleEndian.PutUint64(r[32:], p.Version)
	}
	r.option(40, p.VersionEpoch)
	tags := make(record, 16*len(p.Tags))
	for i, tag := range p.Tags {
		tags.bytes(16*i, []byte(tag.Name))
		tags.bytes(16*i+8, []byte(tag.Value))
	}
	r.list(52, tags, len(p.Tags))
	r.option(60, p.IdempotencyKey)
	if p.Delta {
		r[72] = 1
	}
	if p.SkipHistory {
		r[73] = 1
	}
}

func (r record) option(at int, text string) {
	if text != "" {
		r[at] = 1
		r.bytes(at+4, []byte(text))
	}
}

func (r record) bytes(at int, bytes []byte) { r.list(at, bytes, len(bytes)) }

func (r record) list(at int, elements record, count int) {
	if count > 0 {
		binary.LittleEndian.PutUint32(r[at:], uint32(uintptr(elements.keep())))
		binary.LittleEndian.PutUint32(r[at+4:], uint32(count))
	}
}

func (r record) keep() unsafe.Pointer {
	if len(r) == 0 {
		return nil
	}
	returned = append(returned, r)
	return unsafe.Pointer(unsafe.SliceData(r))
}
