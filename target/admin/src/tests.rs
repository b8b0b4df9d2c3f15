//! Golden bytes, limits, and arbitrary input.

use super::*;
use crate::request::{Chap, Credential, EventsAfter, InitiatorAdd, Place, VolumeCreate, VolumeRemove};
use proptest::prelude::*;

#[test]
fn golden_frame() {
    let body = serde_json::to_vec(&Call::new(Request::Arrays)).unwrap();
    let mut bytes = Vec::new();
    write_frame(&mut bytes, &body).unwrap();
    assert_eq!(bytes, b"KADM\x01\x00\x00\x00\x1f\x00\x00\x00{\"schema\":1,\"request\":\"arrays\"}");
    assert_eq!(read_frame(&mut bytes.as_slice(), MAX_REQUEST).unwrap(), body);
}

#[test]
fn golden_requests() {
    let create = VolumeCreate {
        name: "db".into(),
        lun: Some(3),
        place: Place::Path("/dev/sdb".into()),
        size_bytes: Some(1 << 30),
        block_bytes: None,
        cache: None,
        read_only: false,
        thin: None,
        spread: None,
        initiators: vec!["iqn.x".into()],
        adopt: false,
    };
    let chap = Chap {
        user: "u".into(),
        secret_file: "/s".into(),
        mutual: Some(Credential { user: "m".into(), secret_file: "/t".into() }),
    };
    let add =
        InitiatorAdd { iqn: "iqn.x".into(), luns: vec![3], rights: None, chap: Some(chap), force: false };
    let cases = [
        (
            Request::VolumeCreate(create),
            r#"{"schema":1,"request":{"volume_create":{"name":"db","lun":3,"place":{"path":"/dev/sdb"},"size_bytes":1073741824,"block_bytes":null,"cache":null,"read_only":false,"thin":null,"initiators":["iqn.x"],"adopt":false}}}"#,
        ),
        (
            Request::InitiatorAdd(add),
            r#"{"schema":1,"request":{"initiator_add":{"iqn":"iqn.x","luns":[3],"rights":null,"chap":{"user":"u","secret_file":"/s","mutual":{"user":"m","secret_file":"/t"}},"force":false}}}"#,
        ),
        (
            Request::VolumeRemove(VolumeRemove { volume: "tokyo:3".into(), force: true }),
            r#"{"schema":1,"request":{"volume_remove":{"volume":"tokyo:3","force":true}}}"#,
        ),
        (
            Request::Events(EventsAfter { after: Some(7), wait_ms: 1000 }),
            r#"{"schema":1,"request":{"events":{"after":7,"wait_ms":1000}}}"#,
        ),
    ];
    for (request, text) in cases {
        assert_eq!(serde_json::to_string(&Call::new(request.clone())).unwrap(), text);
        assert_eq!(parse_call(text.as_bytes()), Ok(request));
    }
    // What is left out has its default.
    let short = br#"{"schema":1,"request":{"volume_remove":{"volume":"a"}}}"#;
    assert_eq!(
        parse_call(short),
        Ok(Request::VolumeRemove(VolumeRemove { volume: "a".into(), force: false }))
    );
}

#[test]
fn golden_answers() {
    let refused = Answer::new(Outcome::Refused(Refusal::state("in use")));
    let text = r#"{"schema":1,"outcome":{"refused":{"code":3,"reason":"in use"}}}"#;
    assert_eq!(serde_json::to_string(&refused).unwrap(), text);
    assert_eq!(parse_answer(text.as_bytes()), Ok(refused.outcome));
    let done = Answer::new(Outcome::Done(Reply::Changed(report::Changed {
        what: "x".into(),
        generation: 4,
        notes: vec![],
    })));
    let text = r#"{"schema":1,"outcome":{"done":{"changed":{"what":"x","generation":4,"notes":[]}}}}"#;
    assert_eq!(serde_json::to_string(&done).unwrap(), text);
}

#[test]
fn other_versions_and_unknown_keys_are_refused_by_name() {
    let refused = |text: &str| parse_call(text.as_bytes()).unwrap_err();
    assert!(refused(r#"{"schema":2,"request":{"fly":{}}}"#).reason.contains("schema 2"));
    assert!(refused(r#"{"schema":1,"request":{"fly":{}}}"#).reason.contains("fly"));
    assert!(
        refused(r#"{"schema":1,"request":{"volume_remove":{"volume":"a","forse":true}}}"#)
            .reason
            .contains("forse")
    );
    assert!(refused(r#"{"schema":1,"request":"arrays","more":1}"#).reason.contains("more"));
    assert_eq!(refused("").code, 2);
    let mut header = frame::header(5).unwrap();
    assert_eq!(frame::body_len(&header, 5).unwrap(), 5);
    assert!(matches!(frame::body_len(&header, 4), Err(FrameError::TooLong { len: 5, limit: 4 })));
    header[4] = 2;
    assert!(matches!(frame::body_len(&header, 5), Err(FrameError::Version(2))));
    header[0] = b'G';
    assert!(matches!(frame::body_len(&header, 5), Err(FrameError::NotAFrame)));
    assert!(matches!(read_frame(&mut [].as_slice(), 9), Err(FrameError::Closed)));
    assert!(matches!(read_frame(&mut b"KADM".as_slice(), 9), Err(FrameError::Io(_))));
    assert!(frame::header(MAX_ANSWER + 1).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _ = parse_call(&bytes);
        let _ = parse_answer(&bytes);
        let mut all = frame::header(bytes.len()).unwrap().to_vec();
        all.extend(&bytes);
        prop_assert_eq!(read_frame(&mut all.as_slice(), MAX_REQUEST).unwrap(), bytes.clone());
        let _ = read_frame(&mut bytes.as_slice(), MAX_REQUEST);
    }

    #[test]
    fn any_json_is_read_or_refused(
        name in "arrays|volume_create|volume_remove|initiator_set|peer_add|events|x",
        key in "volume|name|lun|place|size_bytes|luns|chap|after|wait_ms|force",
        value in "-?[0-9]{1,22}|null|true|\"[a-z]{0,9}\"|\\[[0-9]{0,5}\\]|\\{\\}|1e400",
    ) {
        let _ = parse_call(format!("{{\"schema\":1,\"request\":{{\"{name}\":{{\"{key}\":{value}}}}}}}").as_bytes());
    }

    #[test]
    fn what_is_written_is_read(name in "[a-z]{1,9}", lun: Option<u16>, size_bytes: Option<u64>, adopt: bool, ram: bool) {
        let place = if ram { Place::Ram } else { Place::DataFolder };
        let request = Request::VolumeCreate(VolumeCreate {
            name, lun, place, size_bytes, block_bytes: None, cache: None, read_only: false, thin: None,
            spread: lun, initiators: vec![], adopt,
        });
        let text = serde_json::to_vec(&Call::new(request.clone())).unwrap();
        prop_assert_eq!(parse_call(&text), Ok(request));
    }
}
