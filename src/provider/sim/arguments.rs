//! Arguments of a request that outlive the caller: what lands late has copies of its own.

use crate::base::moment::Span;
use std::borrow::Borrow as _;

/// An argument of a request, which can be copied and lent again.
pub(super) trait Argument<'a>: Sized {
    /// The copy that is kept.
    type Kept: Clone + Send + Sync + 'static;

    /// Returns a copy that outlives the caller.
    fn to_owned_argument(self) -> Self::Kept;

    /// Returns the argument as the request takes it.
    fn from_owned_argument(kept: &'a Self::Kept) -> Self;
}

impl<'a, T: ToOwned<Owned: Clone + Send + Sync + 'static> + ?Sized> Argument<'a> for &'a T {
    type Kept = T::Owned;

    fn to_owned_argument(self) -> T::Owned {
        self.to_owned()
    }

    fn from_owned_argument(kept: &'a T::Owned) -> Self {
        kept.borrow()
    }
}

impl<'a, T: Clone + Send + Sync + 'static> Argument<'a> for Option<&'a T> {
    type Kept = Option<T>;

    fn to_owned_argument(self) -> Option<T> {
        self.cloned()
    }

    fn from_owned_argument(kept: &'a Option<T>) -> Self {
        kept.as_ref()
    }
}

/// Arguments that are copied as they are.
macro_rules! copied_arguments {
    ($($type:ty),*) => {
        $(impl Argument<'_> for $type {
            type Kept = $type;

            fn to_owned_argument(self) -> $type {
                self
            }

            fn from_owned_argument(kept: &$type) -> Self {
                *kept
            }
        })*
    };
}

copied_arguments!(bool, Span);
