//! The target's half of the security stage: which method, and CHAP (RFC 7143 12.1).
//!
//! ```text
//!  initiator                                   target
//!  AuthMethod=CHAP,None          ------>
//!                                <------       AuthMethod=CHAP
//!  CHAP_A=7,5                    ------>
//!                                <------       CHAP_A=7 CHAP_I=.. CHAP_C=..
//!  CHAP_N=.. CHAP_R=..           ------>       (checked here)
//!  [CHAP_I=.. CHAP_C=..]         <------       [CHAP_N=.. CHAP_R=..]   only after the initiator's
//!                                                                       proof, so that no challenge
//!                                                                       of ours can be reflected
//! ```

use super::policy::Authentication;
use super::target::LoginError;
use crate::chap::{self, Account, Algorithm, Challenge};
use crate::text::{Text, number};

const CHAP: &str = "CHAP";
const NONE: &str = "None";

/// How far the authentication has come.
#[derive(Clone, Debug)]
pub(super) enum Progress {
    /// No method is chosen.
    Undecided,
    /// CHAP is chosen, its algorithm is not.
    Method,
    /// The challenge is sent.
    Challenged(Algorithm),
    /// Done: as that user, or as nobody.
    Done(Option<Box<str>>),
}

/// The security keys of one text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SecurityKeys<'a> {
    method: Option<&'a str>,
    algorithms: Option<&'a str>,
    user: Option<&'a str>,
    response: Option<&'a str>,
    identifier: Option<&'a str>,
    challenge: Option<&'a str>,
}

impl<'a> SecurityKeys<'a> {
    /// Takes a pair, if its key is one of these.
    pub(super) fn take(&mut self, key: &str, value: &'a str) -> Result<bool, LoginError> {
        let (name, slot) = match key {
            "AuthMethod" => ("AuthMethod", &mut self.method),
            "CHAP_A" => ("CHAP_A", &mut self.algorithms),
            "CHAP_N" => ("CHAP_N", &mut self.user),
            "CHAP_R" => ("CHAP_R", &mut self.response),
            "CHAP_I" => ("CHAP_I", &mut self.identifier),
            "CHAP_C" => ("CHAP_C", &mut self.challenge),
            _ => return Ok(false),
        };
        if slot.replace(value).is_some() {
            return Err(LoginError::Repeated(name));
        }
        Ok(true)
    }
}

impl Progress {
    pub(super) const fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }

    /// Goes on with the keys of a text; what they ask for goes to `out`.
    pub(super) fn advance(
        &mut self,
        keys: &SecurityKeys<'_>,
        required: &Authentication,
        allowed: &[Algorithm],
        challenge: &Challenge,
        out: &mut Text,
    ) -> Result<(), LoginError> {
        if let Some(list) = keys.method {
            if !matches!(self, Self::Undecided) {
                return Err(LoginError::Repeated("AuthMethod"));
            }
            let (method, next) = match required {
                Authentication::None => (NONE, Self::Done(None)),
                Authentication::Chap(_) => (CHAP, Self::Method),
            };
            if !list.split(',').any(|item| item == method) {
                return Err(LoginError::NotAuthenticated("no common authentication method"));
            }
            out.push("AuthMethod", method);
            *self = next;
        }
        if let Some(list) = keys.algorithms {
            if !matches!(self, Self::Method) {
                return Err(LoginError::NotAuthenticated("CHAP_A out of turn"));
            }
            let algorithm = Algorithm::choose(list, allowed)
                .ok_or(LoginError::NotAuthenticated("no common CHAP algorithm"))?;
            out.push_number("CHAP_A", algorithm.number().into());
            out.push_number("CHAP_I", challenge.identifier.into());
            out.push("CHAP_C", &challenge.to_text());
            *self = Self::Challenged(algorithm);
        }
        match (keys.user, keys.response) {
            (Some(user), Some(response)) => {
                let (Self::Challenged(algorithm), Authentication::Chap(accounts)) = (&*self, required) else {
                    return Err(LoginError::NotAuthenticated("CHAP_R out of turn"));
                };
                let account = verified(*algorithm, accounts, user, response, challenge)?;
                prove(*algorithm, account, keys, challenge, out)?;
                *self = Self::Done(Some(account.initiator().user.clone()));
            }
            (Some(_), None) => return Err(LoginError::Missing("CHAP_R")),
            (None, Some(_)) => return Err(LoginError::Missing("CHAP_N")),
            (None, None) if keys.identifier.is_some() || keys.challenge.is_some() => {
                return Err(LoginError::NotAuthenticated("a challenge before the initiator's proof"));
            }
            (None, None) => {}
        }
        Ok(())
    }
}

/// The account whose secret the response proves knowledge of.
fn verified<'a>(
    algorithm: Algorithm,
    accounts: &'a [Account],
    user: &str,
    response: &str,
    challenge: &Challenge,
) -> Result<&'a Account, LoginError> {
    let wrong = LoginError::NotAuthenticated("wrong CHAP user name or response");
    let response = chap::from_text(response).ok_or(wrong.clone())?;
    let known = accounts.iter().find(|account| *account.initiator().user == *user);
    // An unknown user takes the same work as a known one, so that the time tells nothing.
    let account = known.or(accounts.first()).ok_or(wrong.clone())?;
    let expected = algorithm.response(challenge.identifier, &account.initiator().secret, challenge.bytes());
    if expected.matches(&response) && known.is_some() { Ok(account) } else { Err(wrong) }
}

/// Answers the initiator's challenge, where there is one.
fn prove(
    algorithm: Algorithm,
    account: &Account,
    keys: &SecurityKeys<'_>,
    own: &Challenge,
    out: &mut Text,
) -> Result<(), LoginError> {
    let (identifier, challenge) = match (keys.identifier, keys.challenge) {
        (Some(identifier), Some(challenge)) => (identifier, challenge),
        (None, None) => return Ok(()),
        (Some(_), None) => return Err(LoginError::Missing("CHAP_C")),
        (None, Some(_)) => return Err(LoginError::Missing("CHAP_I")),
    };
    let identifier = number(identifier)
        .and_then(|identifier| u8::try_from(identifier).ok())
        .ok_or(LoginError::NotAuthenticated("CHAP_I is not a byte"))?;
    let challenge =
        chap::from_text(challenge).ok_or(LoginError::NotAuthenticated("CHAP_C is not a binary value"))?;
    // RFC 7143 12.1.3: a challenge that is our own comes from somebody who wants it answered for us.
    if challenge == own.bytes() {
        return Err(LoginError::NotAuthenticated("the target's own challenge came back"));
    }
    let target =
        account.target().ok_or(LoginError::NotAuthenticated("mutual authentication is not set up"))?;
    out.push("CHAP_N", &target.user);
    out.push("CHAP_R", &algorithm.response(identifier, &target.secret, &challenge).to_text());
    Ok(())
}
