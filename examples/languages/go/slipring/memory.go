//go:build wasip1

package slipring

import "unsafe"

var (
	// Before Go's runtime has started, nothing can be allocated. What asks so early is the adapter that stands between WASI as
	// Go knows it and the relay's: once, for 64 KiB, which it keeps.
	early     [128 << 10]byte
	earlyUsed uint32
	started   bool
)

func init() { started = true }

// Memory for what is passed to a call.
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
	// Nothing of the relay may be called from here, and the collector, if it runs now, would ask it for the time: the adapter
	// answers for it.
	pauseClock(1)
	// Go aligns by size: what has a multiple of 8 bytes to 8.
	bytes := make([]byte, (size+7)&^7)
	passed = append(passed, bytes)
	pauseClock(0)
	return unsafe.Pointer(unsafe.SliceData(bytes))
}

//go:wasmimport wasi_snapshot_preview1 adapter_monotonic_clock_set_paused
func pauseClock(paused uint32)
