//! The access rules of the configuration, as the channel controllers ask them.

use crate::config::secrets::{Access as Grants, Grant, Proof};
use crate::config::{Digest, PortalRole};
use crate::plan::Plan;
use kagami_channel::{Access, Ends, Refused, Visible};
use kagami_iscsi::chap::{Account, ChapConfigError, Credentials};
use kagami_iscsi::login::{Applicant, Authentication, Denial, SessionType, TargetSettings};
use kagami_iscsi::name::IscsiName;
use kagami_iscsi::negotiate::{DigestPreference, Preferences};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

/// Who may log in to what.
#[derive(Clone, Debug)]
pub struct Rules {
    grants: Arc<Grants>,
    target: IscsiName,
    settings: Arc<TargetSettings>,
    portals: Vec<Portal>,
    refused: Option<SyncSender<RefusedLogin>>,
}

/// A login that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedLogin {
    /// Who it said that it was.
    pub initiator: Option<Box<str>>,
    /// Where it came from, and the portal.
    pub ends: Ends,
    /// Why.
    pub reason: Box<str>,
}

#[derive(Clone, Copy, Debug)]
struct Portal {
    address: SocketAddr,
    /// Open to initiators without CHAP beyond loopback.
    open: bool,
    role: PortalRole,
    tag: u16,
}

/// Rules that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The target's name.
    #[error("the target's name \"{0}\" is no iSCSI name")]
    Target(String),
    /// A CHAP account.
    #[error("initiator {0}: {1}")]
    Chap(String, ChapConfigError),
}

impl Rules {
    /// The rules of a configuration. All secrets are checked here, so that no login can trip
    /// over one.
    ///
    /// # Errors
    /// A name or a CHAP account that cannot be used.
    pub fn new(plan: &Plan, grants: Grants) -> Result<Self, RulesError> {
        let target = IscsiName::new(&plan.iqn).map_err(|_| RulesError::Target(plan.iqn.clone()))?;
        for (initiator, grant) in grants.listed() {
            account(grant).map_err(|error| RulesError::Chap(initiator.to_owned(), error))?;
        }
        let preferences = Preferences {
            header_digest: digest(&plan.iscsi.header_digest),
            data_digest: digest(&plan.iscsi.data_digest),
            max_connections: plan.iscsi.max_connections,
            max_recv_data_segment_length: plan.iscsi.max_recv_segment,
            max_burst_length: plan.iscsi.max_burst,
            first_burst_length: plan.iscsi.first_burst,
            max_outstanding_r2t: u8::try_from(plan.tasks.max_r2t).unwrap_or(8),
            ..Preferences::default()
        };
        let settings = TargetSettings {
            alias: Some(plan.name.as_str().into()),
            preferences,
            ..TargetSettings::default()
        };
        let portals = plan.network.portals.iter().map(|portal| Portal {
            address: portal.address,
            open: portal.open,
            role: portal.role,
            tag: portal.group_tag,
        });
        Ok(Self {
            grants: Arc::new(grants),
            target,
            settings: Arc::new(settings),
            portals: portals.collect(),
            refused: None,
        })
    }

    /// How this array and a peer prove to each other who they are, when this one logs in.
    ///
    /// # Errors
    /// The account cannot be used.
    pub(super) fn account_at(&self, peer: &str) -> Result<Option<Account>, ChapConfigError> {
        let Some(proofs) = self.grants.peer(peer) else { return Ok(None) };
        let credentials = |proof: &Proof| Credentials::new(&proof.user, proof.secret.bytes());
        let Some(own) = &proofs.own else { return Ok(None) };
        let theirs = proofs.theirs.as_ref().map(credentials).transpose()?;
        Account::new(credentials(own)?, theirs).map(Some)
    }

    /// The same rules, and refused logins are told. What does not fit into the channel is left out.
    #[must_use]
    pub fn with_log(mut self, refused: SyncSender<RefusedLogin>) -> Self {
        self.refused = Some(refused);
        self
    }

    /// The same rules with the addresses that the portals really have (port 0 lets the kernel
    /// choose).
    #[must_use]
    pub(super) fn with_portals(mut self, bound: &[SocketAddr]) -> Self {
        for (portal, &address) in self.portals.iter_mut().zip(bound) {
            portal.address = address;
        }
        self
    }

    /// The portal that a connection came through. Its local address may be any of the machine's
    /// where the portal listens on all.
    fn portal(&self, local: Option<SocketAddr>) -> Option<&Portal> {
        let local = local?;
        let same = |portal: &&Portal| {
            let address = portal.address;
            address.port() == local.port() && (address.ip() == local.ip() || address.ip().is_unspecified())
        };
        self.portals.iter().find(same)
    }
}

fn digest(wanted: &[Digest]) -> DigestPreference {
    match wanted {
        [Digest::None] => DigestPreference::Never,
        [Digest::Crc32c] => DigestPreference::Require,
        [Digest::Crc32c, ..] => DigestPreference::Prefer,
        _ => DigestPreference::Allow,
    }
}

fn account(grant: &Grant) -> Result<Option<Account>, ChapConfigError> {
    let Some(proof) = &grant.chap else { return Ok(None) };
    let credentials = |proof: &Proof| Credentials::new(&proof.user, proof.secret.bytes());
    let mutual = grant.mutual.as_ref().map(credentials).transpose()?;
    Account::new(credentials(proof)?, mutual).map(Some)
}

impl Access for Rules {
    fn settings(&self, _local: Option<SocketAddr>) -> Arc<TargetSettings> {
        Arc::clone(&self.settings)
    }

    fn check(&self, applicant: &Applicant<'_>, ends: Ends) -> Result<Authentication, Denial> {
        if applicant.target.is_some_and(|target| *target != self.target) {
            return Err(Denial::NotFound);
        }
        let portal = self.portal(ends.local).ok_or(Denial::Unavailable)?;
        let address = ends.local.unwrap_or(portal.address);
        let grant = self.grants.grant(applicant.initiator.as_str(), &address, portal.open);
        let wrong = match portal.role {
            PortalRole::Peer => grant.is_some_and(|grant| !grant.is_peer),
            PortalRole::Host => grant.is_some_and(|grant| grant.is_peer),
            PortalRole::Both => false,
        };
        if wrong && applicant.session_type == SessionType::Normal {
            return Err(Denial::NotAuthorized);
        }
        if applicant.session_type == SessionType::Discovery {
            // A discovery tells names and addresses, to those who are listed; hosts seldom have
            // credentials set up for it.
            return grant.map(|_| Authentication::None).ok_or(Denial::NotAuthorized);
        }
        match grant.map(account) {
            Some(Ok(Some(account))) => Ok(Authentication::Chap(Arc::new([account]))),
            Some(Ok(None)) => Ok(Authentication::None),
            Some(Err(_)) => Err(Denial::Unavailable),
            None => Err(Denial::NotAuthorized),
        }
    }

    fn visible(&self, initiator: &str, ends: Ends) -> Visible {
        let Some(portal) = self.portal(ends.local) else { return Visible::only([]) };
        let address = ends.local.unwrap_or(portal.address);
        match self.grants.grant(initiator, &address, portal.open) {
            Some(grant) => Visible::only(grant.luns.iter().copied()),
            None => Visible::only([]),
        }
    }

    fn target(&self) -> &str {
        self.target.as_str()
    }

    fn portals(&self, local: Option<SocketAddr>) -> Vec<(SocketAddr, u16)> {
        let hosts = self.portals.iter().filter(|portal| portal.role != PortalRole::Peer);
        hosts
            .map(|portal| {
                let mut address = portal.address;
                // "All addresses" is nothing that a host can connect to: the one that it used is.
                if let Some(local) = local.filter(|_| address.ip().is_unspecified()) {
                    address.set_ip(local.ip());
                }
                (address, portal.tag)
            })
            .collect()
    }

    fn port(&self, _local: Option<SocketAddr>) -> u16 {
        1
    }

    fn refused(&self, refused: &Refused<'_>) {
        if let Some(log) = &self.refused {
            let initiator = refused.initiator.map(Into::into);
            // A full channel means that many were refused just now; they are counted all the same.
            let _ =
                log.try_send(RefusedLogin { initiator, ends: refused.ends, reason: refused.reason.into() });
        }
    }
}
