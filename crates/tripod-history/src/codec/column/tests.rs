use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(values: &[f64]) {
    let bytes = encode_column(values);
    let back = decode_column(&bytes, values.len()).expect("own bytes");
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&back), bits(values));
}

/// Whole numbers, floats, and every kind of odd value.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => (-1000_i64..1000).prop_map(|whole| whole as f64),
        2 => (-(1_i64 << 54)..1 << 54).prop_map(|whole| whole as f64),
        2 => any::<f64>(),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => prop::sample::select(vec![
            crate::STALE_NAN, f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0,
            f64::MIN_POSITIVE, f64::from_bits(1), f64::MAX, f64::MIN,
        ]),
    ]
}

proptest! {
    #[test]
    fn any_values_come_back_bit_by_bit(values in prop::collection::vec(value(), 0..300)) {
        check(&values);
    }

    #[test]
    fn whole_numbers_with_a_few_odd_ones_come_back(
        mut values in prop::collection::vec((0_u32..50).prop_map(f64::from), 1..300),
        odd in prop::collection::vec((any::<prop::sample::Index>(), value()), 0..9),
    ) {
        for (place, value) in odd {
            let place = place.index(values.len());
            values[place] = value;
        }
        check(&values);
    }

    #[test]
    fn strange_bytes_are_an_error_or_values_but_never_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        len in 0_usize..300,
    ) {
        if let Ok(values) = decode_column(&bytes, len) {
            prop_assert_eq!(values.len(), len);
        }
    }
}

#[test]
fn a_column_that_lacks_or_exceeds_a_byte_is_refused() {
    let values: Vec<f64> = (0..200).map(f64::from).map(|tick| tick * 3.0 + (tick % 7.0)).collect();
    for len in [10, 200] {
        let mut bytes = encode_column(&values[..len]);
        bytes.push(0);
        assert!(decode_column(&bytes, len).is_err(), "{len}");
        bytes.pop();
        bytes.pop();
        assert!(decode_column(&bytes, len).is_err(), "{len}");
    }
}

#[test]
fn a_stale_marker_does_not_turn_a_counter_into_floats() {
    let mut values: Vec<f64> =
        (0..240).map(|tick| f64::from(tick * 1000 + tick * tick % 97)).collect();
    let plain = encode_column(&values).len();
    values[239] = crate::STALE_NAN;
    let with_marker = encode_column(&values).len();
    // Ten bytes for the marker, and one delta that is unlike the others.
    assert!(with_marker < plain + 24, "{plain} {with_marker}");
}

#[test]
fn whole_numbers_from_2_to_the_53_on_stay_exact() {
    let limit = (1_u64 << 53) as f64;
    check(&(0..150).map(|step| limit + f64::from(step) * 2.0).collect::<Vec<_>>());
    check(&(0..150).map(|step| limit - f64::from(step)).collect::<Vec<_>>());
}
