//! The XOR compression of Gorilla, to compare with: T. Pelkonen et al., "Gorilla: A Fast, Scalable,
//! In-Memory Time Series Database", VLDB 2015, sections 4.1.1 and 4.1.2. Counts bits only.

/// The number of bits that a series of points takes. The paper's times are in seconds; here they are
/// in milliseconds, as Prometheus and this store have them, with the paper's classes.
pub(super) fn bits(points: &[(i64, f64)]) -> u64 {
    times(points) + values(points)
}

fn times(points: &[(i64, f64)]) -> u64 {
    // The header holds the start of the block, and the first delta takes 14 bits.
    let mut bits = 64 + 14;
    for three in points.windows(3) {
        let delta_of_delta = three[2].0 - 2 * three[1].0 + three[0].0;
        bits += match delta_of_delta {
            0 => 1,
            -63..=64 => 2 + 7,
            -255..=256 => 3 + 9,
            -2047..=2048 => 4 + 12,
            _ => 4 + 32,
        };
    }
    bits
}

fn values(points: &[(i64, f64)]) -> u64 {
    let mut bits = 64;
    // Leading and trailing zeros of the window of meaningful bits that is in use.
    let mut window: Option<(u32, u32)> = None;
    for pair in points.windows(2) {
        let changed = pair[0].1.to_bits() ^ pair[1].1.to_bits();
        if changed == 0 {
            bits += 1;
            continue;
        }
        let (leading, trailing) = (changed.leading_zeros().min(31), changed.trailing_zeros());
        match window {
            Some((front, back)) if leading >= front && trailing >= back => {
                bits += 2 + u64::from(64 - front - back);
            }
            _ => {
                window = Some((leading, trailing));
                bits += 2 + 5 + 6 + u64::from(64 - leading - trailing);
            }
        }
    }
    bits
}

#[test]
fn known_sizes() {
    let steady: Vec<_> = (0..10).map(|tick| (tick * 60, 1.0)).collect();
    assert_eq!(bits(&steady), 64 + 14 + 8 + 64 + 9);
    // 12 and 24 differ in one bit, as in figure 2 of the paper.
    assert_eq!(values(&[(0, 12.0), (0, 24.0)]), 64 + 2 + 5 + 6 + 1);
}
