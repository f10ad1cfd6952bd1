//! Drives an encoder from snapshots.

use std::collections::HashMap;

use super::Frame;
use super::encoder::Encoder;
use super::table::FamilyInfo;
use super::value::Number;
use crate::samples::{self, Sample};
use crate::snapshot::{FamilySnapshot, SeriesSnapshot, Snapshot};
use crate::wire::unix_ms;

/// An [`Encoder`] that is told whole snapshots, and finds out itself what came, changed and went.
///
/// A histogram becomes the series that the text page shows; one with exponential buckets those of
/// its buckets that hold something.
///
/// # Examples
/// ```
/// use tripod_metrics::MetricsCollector;
/// use tripod_metrics::stream::{Decoder, Feed};
///
/// let metrics = MetricsCollector::new();
/// let started_unix_ms = 1_764_000_000_000;
/// let mut feed = Feed::new(started_unix_ms);
/// let frame = feed.tick(&metrics.snapshot()); // every second, one for all subscribers
/// let first = feed.key_frame(); // for a subscriber that comes now
///
/// let mut decoder = Decoder::new();
/// decoder.apply(&first.bytes)?;
/// assert_eq!(decoder.series().count(), 1);
/// # Ok::<(), tripod_metrics::stream::DecodeError>(())
/// ```
#[derive(Debug)]
pub struct Feed {
    encoder: Encoder,
    known: HashMap<Box<[u8]>, Known>,
    round: u64,
    refused_count: u64,
    // Kept for their capacity.
    key: Vec<u8>,
    values: Vec<(u32, Number)>,
}

#[derive(Debug)]
struct Known {
    id: u32,
    /// The last tick that had the series.
    round: u64,
}

impl Feed {
    /// Creates one that has told nothing; `epoch` as for [`Encoder::new`].
    #[must_use]
    pub fn new(epoch: u64) -> Self {
        Self {
            encoder: Encoder::new(epoch),
            known: HashMap::new(),
            round: 0,
            refused_count: 0,
            key: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Makes the frame that leads from the last snapshot to this one.
    pub fn tick(&mut self, snapshot: &Snapshot) -> Frame {
        self.round += 1;
        self.values.clear();
        let mut seen = 0;
        for family in &snapshot.families {
            samples::for_each_of_family(family, |series, sample| {
                seen += usize::from(self.take_sample(family, series, &sample));
            });
        }
        if seen < self.known.len() {
            self.known.retain(|_, known| {
                let is_there = known.round == self.round;
                if !is_there {
                    self.encoder.retire(known.id);
                }
                is_there
            });
        }
        self.encoder.tick(unix_ms(snapshot.time), &self.values)
    }

    /// Makes a frame of the whole state as of the last tick.
    #[must_use]
    pub fn key_frame(&self) -> Frame {
        self.encoder.key_frame()
    }

    /// The encoder, to look at.
    #[must_use]
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// How often a series was left out of a tick because the stream could not carry it.
    #[must_use]
    pub fn refused_count(&self) -> u64 {
        self.refused_count
    }

    /// Notes one number; false if the stream cannot carry it.
    fn take_sample(
        &mut self,
        family: &FamilySnapshot,
        series: &SeriesSnapshot,
        sample: &Sample<'_>,
    ) -> bool {
        let labels = series.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let labels = labels.chain(sample.extra);
        self.key.clear();
        write_key(&mut self.key, &family.name, sample.suffix, labels.clone());
        if let Some(known) = self.known.get_mut(&*self.key) {
            // Two equal series cannot be in one snapshot; if they are, the last one counts.
            let is_first = known.round != self.round;
            known.round = self.round;
            self.values.push((known.id, sample.number));
            return is_first;
        }
        let name = format!("{}{}", family.name, sample.suffix);
        let info = FamilyInfo {
            name: &name,
            help: &family.help,
            unit: family.unit.as_deref(),
            kind: family.kind,
        };
        match self.encoder.add(info, labels, sample.number) {
            Ok(id) => {
                let known = Known { id, round: self.round };
                self.known.insert(self.key.as_slice().into(), known);
                true
            }
            Err(_) => {
                self.refused_count += 1;
                false
            }
        }
    }
}

/// Joins name and labels so that two keys are equal only if all parts are: each has its length.
fn write_key<'a>(
    key: &mut Vec<u8>,
    name: &str,
    suffix: &str,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
) {
    let mut put_text = |text: &str| {
        key.extend_from_slice(&text.len().to_le_bytes());
        key.extend_from_slice(text.as_bytes());
    };
    put_text(name);
    put_text(suffix);
    for (name, value) in labels {
        put_text(name);
        put_text(value);
    }
}
