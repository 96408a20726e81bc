//! Overwriting what ciphers leave on the stack: their types wipe themselves when dropped, but not the copies that moving them
//! makes, nor the registers that the compiler spilled.

/// Runs a function and overwrites `BYTES` of the stack below the caller's frame, which must be more than the function uses.
/// What it returns must hold no secret, or hold it in secret memory. What this cannot reach: the registers themselves, which
/// the kernel keeps for a thread that is interrupted, until the thread uses them for something else.
pub fn wiping_stack<const BYTES: usize, R>(function: impl FnOnce() -> R) -> R {
    let result = call(function);
    zeroize::zeroize_stack::<BYTES>();
    result
}

/// A frame of its own, so that nothing of the function lies in the frame that stays.
#[inline(never)]
fn call<R>(function: impl FnOnce() -> R) -> R {
    function()
}
