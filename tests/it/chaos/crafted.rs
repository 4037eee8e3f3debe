//! Files that are no modules and are expensive to check.

/// Returns components nested `depth` times.
pub fn nested_components(depth: usize) -> Vec<u8> {
    const HEADER: [u8; 8] = *b"\0asm\x0d\0\x01\0";
    const COMPONENT_SECTION: u8 = 4;
    // Built from the inside out and backwards, so that nothing has to be moved.
    let mut reversed: Vec<u8> = HEADER.iter().rev().copied().collect();
    for _ in 0..depth {
        let mut size = reversed.len();
        let mut leb = Vec::new();
        loop {
            let more = size > 0x7f;
            leb.push((size & 0x7f) as u8 | if more { 0x80 } else { 0 });
            size >>= 7;
            if !more {
                break;
            }
        }
        reversed.extend(leb.iter().rev());
        reversed.push(COMPONENT_SECTION);
        reversed.extend(HEADER.iter().rev());
    }
    reversed.reverse();
    reversed
}
