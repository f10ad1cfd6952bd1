//! Families whose labels are a type, so that a series is found by an index instead of by text.

use std::sync::OnceLock;

use crate::family::Family;
use crate::metric::Metric;
use crate::sync::Arc;

/// The most label sets that a type may have, so that a place for each can be kept.
pub const LABEL_SETS_MAX: usize = 1 << 16;

/// A type with a known number of values, each with a text: see [`label_enum!`](crate::label_enum) and
/// [`label_strings!`](crate::label_strings).
pub trait LabelValue: Copy {
    /// How many values there are.
    const CARDINALITY: usize;
    /// The number of this value, less than [`CARDINALITY`](Self::CARDINALITY).
    fn index(self) -> usize;
    /// The text of this value.
    fn text(self) -> &'static str;
}

impl LabelValue for bool {
    const CARDINALITY: usize = 2;

    fn index(self) -> usize {
        usize::from(self)
    }

    fn text(self) -> &'static str {
        if self { "true" } else { "false" }
    }
}

/// A type whose fields are the labels of a family: see [`label_set!`](crate::label_set).
pub trait LabelSet {
    /// The names, in the order of the fields.
    const NAMES: &'static [&'static str];
    /// How many label sets there are: the product over the fields, at most [`LABEL_SETS_MAX`].
    const CARDINALITY: usize;
    /// The number of this label set, less than [`CARDINALITY`](Self::CARDINALITY).
    fn index(&self) -> usize;
    /// The texts of the values, in the order of the names.
    fn texts(&self) -> Vec<&'static str>;
}

/// Declares an enum whose variants are the values of a label.
///
/// # Examples
/// ```
/// use tripod_metrics::{LabelValue, label_enum};
///
/// label_enum! {
///     /// How a request was made.
///     pub enum Method {
///         Get => "GET",
///         Post => "POST",
///     }
/// }
/// assert_eq!(Method::Post.text(), "POST");
/// assert_eq!(Method::CARDINALITY, 2);
/// ```
#[macro_export]
macro_rules! label_enum {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident {
            $($(#[$variant_attribute:meta])* $variant:ident => $text:literal),+ $(,)?
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $visibility enum $name {
            $($(#[$variant_attribute])* #[doc = concat!("`", $text, "`")] $variant),+
        }

        impl $crate::LabelValue for $name {
            const CARDINALITY: usize = [$($text),+].len();

            #[inline]
            fn index(self) -> usize {
                self as usize
            }

            fn text(self) -> &'static str {
                [$($text),+][self as usize]
            }
        }
    };
}

/// Declares a struct whose fields are the labels of a family.
///
/// Each field is a [`LabelValue`]. The number of label sets, the product over the fields, must not
/// pass [`LABEL_SETS_MAX`]; that is checked when the program is compiled.
///
/// # Examples
/// ```
/// use tripod_metrics::{MetricsCollector, label_enum, label_set};
///
/// label_enum! { pub enum Method { Get => "GET", Post => "POST" } }
/// label_set! {
///     /// What requests are told apart by.
///     pub struct Request { method: Method, is_cached: bool }
/// }
///
/// let metrics = MetricsCollector::new();
/// let requests =
///     metrics.counter("requests_total", "Requests.").labelled_by::<Request>().register()?;
/// requests.get(&Request { method: Method::Get, is_cached: true }).inc();
/// assert!(metrics.encode_text().contains("requests_total{method=\"GET\",is_cached=\"true\"} 1\n"));
/// # Ok::<(), tripod_metrics::RegisterError>(())
/// ```
#[macro_export]
macro_rules! label_set {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident {
            $($(#[$field_attribute:meta])* $field:ident : $value:ty),+ $(,)?
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $visibility struct $name {
            $($(#[$field_attribute])* #[doc = concat!("The label `", stringify!($field), "`.")]
            pub $field: $value),+
        }

        impl $crate::LabelSet for $name {
            const NAMES: &'static [&'static str] = &[$(stringify!($field)),+];
            const CARDINALITY: usize = 1 $(* <$value as $crate::LabelValue>::CARDINALITY)+;

            #[inline]
            fn index(&self) -> usize {
                let index = 0;
                $(let index = index * <$value as $crate::LabelValue>::CARDINALITY
                    + $crate::LabelValue::index(self.$field);)+
                index
            }

            fn texts(&self) -> ::std::vec::Vec<&'static str> {
                ::std::vec![$($crate::LabelValue::text(self.$field)),+]
            }
        }
    };
}

/// Declares a label whose values are strings that are known only at run time, at most so many.
///
/// A string is *interned* once, under a lock, and is a number from then on. What comes when all
/// places are taken is the value `OTHER`, with the text `other`, so nothing grows without bound. The
/// texts live as long as the process.
///
/// # Examples
/// ```
/// use tripod_metrics::{LabelValue, label_strings};
///
/// label_strings! {
///     /// The routes of a server.
///     pub struct Route(at most 3);
/// }
///
/// let users = Route::intern("/users");
/// assert_eq!(users, Route::intern("/users"));
/// assert_eq!(users.text(), "/users");
/// Route::intern("/groups");
/// assert_eq!(Route::intern("/too/many"), Route::OTHER);
/// ```
#[macro_export]
macro_rules! label_strings {
    ($(#[$attribute:meta])* $visibility:vis struct $name:ident(at most $most:literal);) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $visibility struct $name(u16);

        impl $name {
            /// Stands for every string that came when all places were taken.
            $visibility const OTHER: Self = Self(0);

            /// Returns the value of this text, or [`OTHER`](Self::OTHER) if all places are taken.
            $visibility fn intern(text: &str) -> Self {
                Self(Self::interner().intern(text))
            }

            fn interner() -> &'static $crate::Interner {
                static INTERNER: $crate::Interner = $crate::Interner::new($most);
                &INTERNER
            }
        }

        impl $crate::LabelValue for $name {
            const CARDINALITY: usize = $most;

            #[inline]
            fn index(self) -> usize {
                usize::from(self.0)
            }

            fn text(self) -> &'static str {
                Self::interner().text(self.0)
            }
        }
    };
}

/// The strings of one [`label_strings!`](crate::label_strings) type.
#[derive(Debug)]
#[doc(hidden)]
pub struct Interner {
    most: u16,
    texts: std::sync::RwLock<Vec<&'static str>>,
}

const OTHER: &str = "other";

impl Interner {
    /// Makes an empty one with `most` places, one of which is that of all others.
    ///
    /// # Panics
    /// If `most` is 0, when the program is compiled.
    #[must_use]
    pub const fn new(most: u16) -> Self {
        assert!(most > 0, "one place is that of all others");
        Self { most, texts: std::sync::RwLock::new(Vec::new()) }
    }

    /// The number of `text`, 0 if all places are taken.
    pub fn intern(&self, text: &str) -> u16 {
        let find = |texts: &[&str]| texts.iter().position(|own| *own == text);
        let known = find(&self.texts.read().unwrap_or_else(std::sync::PoisonError::into_inner));
        let place = known.or_else(|| {
            let mut texts = self.texts.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            find(&texts).or_else(|| {
                let is_room = texts.len() + 1 < usize::from(self.most);
                is_room.then(|| texts.push(String::from(text).leak()))?;
                Some(texts.len() - 1)
            })
        });
        place.map_or(0, |place| place as u16 + 1)
    }

    /// The text of a number that [`intern`](Self::intern) gave.
    pub fn text(&self, index: u16) -> &'static str {
        let texts = self.texts.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let place = usize::from(index).checked_sub(1);
        place.and_then(|place| texts.get(place)).copied().unwrap_or(OTHER)
    }
}

/// All series of one name, found by the index of a [`LabelSet`].
///
/// A handle is cheap to clone, and all clones share the series. There is a place for every label set
/// of the type, so [`get`](Self::get) is arithmetic and one load; a series is made, and is on the
/// page, once it was asked for.
pub struct TypedFamily<M, L> {
    family: Family<M>,
    places: Arc<[OnceLock<M>]>,
    labels: std::marker::PhantomData<fn(L)>,
}

impl<M: Metric, L: LabelSet> TypedFamily<M, L> {
    pub(crate) fn new(family: Family<M>) -> Self {
        const {
            assert!(L::CARDINALITY <= LABEL_SETS_MAX, "the label type has too many label sets");
        }
        let places = (0..L::CARDINALITY).map(|_| OnceLock::new()).collect();
        Self { family, places, labels: std::marker::PhantomData }
    }

    /// Returns the series with these labels.
    ///
    /// # Panics
    /// If the series is observed, through a family of the same description without a type: a mistake
    /// in the code, whatever the input.
    #[inline]
    pub fn get(&self, labels: &L) -> &M {
        let place = &self.places[labels.index()];
        place.get().unwrap_or_else(|| self.make(place, labels))
    }

    #[cold]
    fn make<'a>(&self, place: &'a OnceLock<M>, labels: &L) -> &'a M {
        place.get_or_init(|| match self.family.with(&labels.texts()) {
            Ok(metric) => metric,
            Err(error) => panic!("no series of these labels: {error}"),
        })
    }
}

impl<M, L> Clone for TypedFamily<M, L>
where
    Family<M>: Clone,
{
    fn clone(&self) -> Self {
        Self {
            family: self.family.clone(),
            places: Arc::clone(&self.places),
            labels: std::marker::PhantomData,
        }
    }
}

impl<M, L> std::fmt::Debug for TypedFamily<M, L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TypedFamily").field(&self.family).finish()
    }
}
