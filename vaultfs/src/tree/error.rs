//! What the tree refuses, in its own words; `fuse` maps each to an errno.

/// An error of the tree. Each stands for one errno, named in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// ENOENT.
    #[error("no such file or folder")]
    NotFound,
    /// EEXIST.
    #[error("it exists already")]
    Exists,
    /// ENOTDIR.
    #[error("not a folder")]
    NotFolder,
    /// EISDIR.
    #[error("it is a folder")]
    IsFolder,
    /// ENOTEMPTY.
    #[error("the folder is not empty")]
    NotEmpty,
    /// EINVAL.
    #[error("invalid argument")]
    Invalid,
    /// ENAMETOOLONG.
    #[error("the name is too long")]
    NameTooLong,
    /// ENOSPC.
    #[error("the vault is full")]
    NoSpace,
    /// EFBIG.
    #[error("the file would be too large")]
    FileTooLarge,
    /// EMLINK.
    #[error("too many links")]
    TooManyLinks,
    /// EPERM.
    #[error("not permitted")]
    NotPermitted,
    /// EXDEV.
    #[error("it would cross a border")]
    CrossesBorder,
    /// ENODATA.
    #[error("no such attribute")]
    NoAttribute,
    /// E2BIG.
    #[error("the attributes are too large")]
    AttributesTooLarge,
    /// ENXIO.
    #[error("no data past the offset")]
    NoData,
    /// EOPNOTSUPP.
    #[error("not supported")]
    NotSupported,
    /// EIO: a sealed page does not authenticate (memory corruption), or no secret memory.
    #[error("sealed memory cannot be opened")]
    Sealing,
}
