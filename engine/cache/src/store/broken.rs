//! Mistakes that tests can have made on purpose, to see that they are found. Not there outside of tests.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), allow(dead_code, reason = "only tests make mistakes"))]
pub(super) enum Broken {
    /// A flight makes clean what was overwritten while it was under way.
    CleanByOldFlight,
    /// Pages are clean when their flight begins.
    CleanAtSubmit,
    /// A flight that failed makes its pages clean.
    CleanOnError,
    /// SYNCHRONIZE CACHE flushes the device without a destage.
    FlushWithoutDestage,
    /// SYNCHRONIZE CACHE destages and does not flush the device.
    DestageWithoutFlush,
    /// A fill overwrites what was written while it was under way.
    FillOverWrite,
    /// What the device changed by itself stays in the cache.
    KeepStale,
    /// A FUA write is done when it is in the cache.
    FuaInCache,
    /// What an UNMAP was to overwrite is forgotten though the device has not done it.
    ForgetUndone,
    /// SYNCHRONIZE CACHE does not wait for what is kept back for an UNMAP.
    FlushWithoutKept,
    /// COMPARE AND WRITE does not look at what is dirty.
    ThroughWithoutDrain,
}

#[cfg(test)]
thread_local! {
    static NOW: std::cell::Cell<Option<Broken>> = const { std::cell::Cell::new(None) };
}

/// Makes that mistake from now on, in this thread.
#[cfg(test)]
pub(super) fn set(broken: Option<Broken>) {
    NOW.set(broken);
}

#[cfg(test)]
pub(super) fn is(broken: Broken) -> bool {
    NOW.get() == Some(broken)
}

#[cfg(not(test))]
#[inline(always)]
pub(super) const fn is(_: Broken) -> bool {
    false
}
