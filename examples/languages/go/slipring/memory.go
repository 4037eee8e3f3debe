//go:build wasip1

package slipring

import "unsafe"

var (
	// Go cannot allocate before its runtime has started. Only the adapter between Go's WASI and the relay's asks that
	// early: once, for 64 KiB, which it keeps.
	early     [128 << 10]byte
	earlyUsed uint32
	started   bool
)

func init() { started = true }

// Allocates memory for the arguments of a call.
//
//go:wasmexport cabi_realloc
func realloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	if old != nil || oldSize != 0 {
		panic("nothing that is passed to a module grows")
	}
	if size == 0 {
		return unsafe.Add(unsafe.Pointer(nil), align)
	}
	if !started {
		at := (earlyUsed + align - 1) &^ (align - 1)
		earlyUsed = at + size
		return unsafe.Pointer(&early[at])
	}
	// This function must not call the relay, but if the garbage collector runs now, it asks for the time. While the
	// clock is paused, the adapter replies instead of the relay.
	pauseClock(1)
	// Go aligns by size: a multiple of 8 bytes is aligned to 8.
	bytes := make([]byte, (size+7)&^7)
	passed = append(passed, bytes)
	pauseClock(0)
	return unsafe.Pointer(unsafe.SliceData(bytes))
}

//go:wasmimport wasi_snapshot_preview1 adapter_monotonic_clock_set_paused
func pauseClock(paused uint32)
