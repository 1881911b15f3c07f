//! What hangs on a trunk (addresses, destinations, credentials), changed and taken off by its identifier: the same for each
//! kind of it. A precondition is held against the trunk, which is what is changed.

use super::asked::{Asked, change};
use super::envelope::Failure;
use crate::api::App;
use crate::store::{Store, StoredCredential, StoredGateway, StoredIdentifier, StoredTrunk, TrunkSettings};

/// One kind of what hangs on a trunk.
pub(super) trait Child: Clone + Send + 'static {
    /// Those of a trunk.
    fn list(settings: &mut TrunkSettings) -> &mut Vec<Self>;

    /// Its identifier.
    fn id(&self) -> &str;
}

impl Child for StoredIdentifier {
    fn list(settings: &mut TrunkSettings) -> &mut Vec<Self> {
        &mut settings.ip_identifiers
    }

    fn id(&self) -> &str {
        &self.id
    }
}

impl Child for StoredGateway {
    fn list(settings: &mut TrunkSettings) -> &mut Vec<Self> {
        &mut settings.gateways
    }

    fn id(&self) -> &str {
        &self.id
    }
}

impl Child for StoredCredential {
    fn list(settings: &mut TrunkSettings) -> &mut Vec<Self> {
        &mut settings.credentials
    }

    fn id(&self) -> &str {
        &self.id
    }
}

/// Changes the child that the path names, once `check` has nothing against it; the trunk, and the child as it is now.
pub(super) async fn edit<C: Child>(
    app: &App,
    asked: &Asked,
    check: impl FnOnce(&TrunkSettings, &str) -> Result<(), Failure> + Send + 'static,
    change_child: impl FnOnce(&mut C) + Send + 'static,
) -> Result<(StoredTrunk, C), Failure> {
    let (account, id, child) = (asked.account.clone(), asked.trunk()?, asked.child()?);
    let expected = asked.expected.clone();
    change(app, move |store: Store| async move {
        let mut changed = None;
        let edit = |settings: &mut TrunkSettings| -> Result<(), Failure> {
            check(settings, &child)?;
            let mut list = C::list(settings).iter_mut();
            let one = list.find(|one| one.id() == child).ok_or_else(Failure::not_found)?;
            change_child(one);
            changed = Some(one.clone());
            Ok(())
        };
        let trunk = store.change_trunk(&account, &id, &expected, edit).await?;
        Ok((trunk, changed.ok_or_else(Failure::not_found)?))
    })
    .await
}

/// Takes the child that the query names off its trunk; the trunk, and the child as it was.
pub(super) async fn take_off<C: Child>(app: &App, asked: &Asked) -> Result<(StoredTrunk, C), Failure> {
    let (account, id, child) = (asked.account.clone(), asked.trunk()?, asked.child_in_query()?);
    let expected = asked.expected.clone();
    change(app, move |store: Store| async move {
        let mut gone = None;
        let remove = |settings: &mut TrunkSettings| -> Result<(), Failure> {
            let list = C::list(settings);
            let at = list.iter().position(|one| one.id() == child).ok_or_else(Failure::not_found)?;
            gone = Some(list.remove(at));
            Ok(())
        };
        let trunk = store.change_trunk(&account, &id, &expected, remove).await?;
        Ok((trunk, gone.ok_or_else(Failure::not_found)?))
    })
    .await
}
