//! Every error of the three legs, under one roof.

use crate::{memory, metrics, scheduler};

/// Why something that was asked of [`Tripod`](crate::Tripod) or of one of its legs did not work.
///
/// Gathers the errors of the legs by `From`, so that one `?` serves all; the messages are theirs.
///
/// # Examples
/// ```
/// use tripod::{Error, MemoryManager, Priority};
///
/// fn setup() -> Result<(), Error> {
///     let memory = MemoryManager::builder().size_classes([512])?.budget_bytes(1000).build()?;
///     let _held = memory.try_reserve(600)?;
///     let _priority: Priority = "urgent".parse()?;
///     Ok(())
/// }
/// assert!(matches!(setup(), Err(Error::ParsePriority(_))));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A memory manager could not be built.
    #[error(transparent)]
    BuildMemory(#[from] memory::BuildError),
    /// A budget could not be created.
    #[error(transparent)]
    Budget(#[from] memory::BudgetError),
    /// A buffer could not be had.
    #[error(transparent)]
    Acquire(#[from] memory::AcquireError),
    /// Memory could not be reserved.
    #[error(transparent)]
    Reserve(#[from] memory::ReserveError),
    /// Sizes are no size classes.
    #[error(transparent)]
    SizeClass(#[from] memory::SizeClassError),
    /// A buffer could not be made longer.
    #[error(transparent)]
    Resize(#[from] memory::ResizeError),
    /// There is no lease, or no access to it.
    #[error(transparent)]
    Lease(#[from] memory::LeaseError),
    /// A file could not be mapped.
    #[error(transparent)]
    Map(#[from] memory::MapError),
    /// A pool of objects could not be built.
    #[error(transparent)]
    ObjectPool(#[from] memory::ObjectPoolError),
    /// The pressure is no longer told.
    #[error(transparent)]
    Pressure(#[from] memory::PressureError),
    /// A metric could not be registered.
    #[error(transparent)]
    Register(#[from] metrics::RegisterError),
    /// A series could not be had.
    #[error(transparent)]
    Label(#[from] metrics::LabelError),
    /// A scheduler could not be built.
    #[error(transparent)]
    BuildScheduler(#[from] scheduler::BuildError),
    /// A task was refused.
    #[error(transparent)]
    Submit(#[from] scheduler::SubmitError),
    /// A task has no result.
    #[error(transparent)]
    Task(#[from] scheduler::TaskError),
    /// A text names no priority.
    #[error(transparent)]
    ParsePriority(#[from] scheduler::ParsePriorityError),
}
