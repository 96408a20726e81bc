//! The least that a user of the bucket must be allowed, as a policy of IAM. Every call that this folder makes is covered:
//!
//! | call | action |
//! |---|---|
//! | HeadObject, GetObject, source of CopyObject | s3:GetObject |
//! | PutObject, CopyObject, CreateMultipartUpload, UploadPart, CompleteMultipartUpload | s3:PutObject |
//! | AbortMultipartUpload | s3:AbortMultipartUpload |
//! | DeleteObject (the history and probes only) | s3:DeleteObject |
//! | ListObjectsV2 | s3:ListBucket |
//! | CreateBucket, PutBucketVersioning (`setup-storage` only) | the same |

use serde_json::{Value, json};

use crate::config::S3Place;
use crate::remote::names;

/// For everyday use.
pub fn everyday(place: &S3Place) -> Value {
    json!({"Version": "2012-10-17", "Statement": statements(place)})
}

/// For whoever runs `setup-storage`.
pub fn with_setup(place: &S3Place) -> Value {
    let mut statements = statements(place);
    statements.push(json!({
        "Sid": "TazpodSetup",
        "Effect": "Allow",
        "Action": ["s3:CreateBucket", "s3:PutBucketVersioning"],
        "Resource": bucket(place),
    }));
    json!({"Version": "2012-10-17", "Statement": statements})
}

fn statements(place: &S3Place) -> Vec<Value> {
    let object = |name: &str| format!("{}/{}{name}", bucket(place), place.prefix);
    let (archive, history, probes) =
        (object(names::ARCHIVE), object(&format!("{}/*", names::HISTORY)), object("probe-*"));
    vec![
        json!({
            "Sid": "TazpodReadAndWrite",
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"],
            "Resource": [archive, history, probes],
        }),
        json!({
            "Sid": "TazpodOldCopies",
            "Effect": "Allow",
            "Action": "s3:DeleteObject",
            "Resource": [history, probes],
        }),
        json!({
            "Sid": "TazpodList",
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": bucket(place),
            "Condition": {"StringLike": {"s3:prefix": format!("{}*", place.prefix)}},
        }),
    ]
}

fn bucket(place: &S3Place) -> String {
    format!("arn:aws:s3:::{}", place.bucket)
}
