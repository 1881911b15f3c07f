//! The two databases that every behaviour of the store is shown on.

use tandem_server::secrets::Sealer;
use tandem_server::store::Store;

use crate::postgres;

/// A database of a test's own, gone with it.
pub(crate) struct Base {
    pub(crate) url: String,
    _folder: Option<tempfile::TempDir>,
}

impl Base {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("tandem.db").display());
        Self { url, _folder: Some(folder) }
    }

    /// `None` when the tests are to run without PostgreSQL.
    pub(crate) fn postgres() -> Option<Self> {
        Some(Self { url: postgres::cluster()?.database(), _folder: None })
    }

    /// Opens it, as each process does that uses it.
    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.url, sealer('a')).await.unwrap()
    }
}

/// The key that is this hex digit throughout.
pub(crate) fn sealer(digit: char) -> Sealer {
    Sealer::find(Some(&digit.to_string().repeat(64)), None, None).unwrap()
}

/// Has each behaviour, a function of a [`Base`], run on both databases.
macro_rules! on_both_databases {
    ($($behaviour:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                super::$behaviour(crate::base::Base::sqlite()).await;
            })+
        }

        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                if let Some(base) = crate::base::Base::postgres() {
                    super::$behaviour(base).await;
                }
            })+
        }
    };
}

pub(crate) use on_both_databases;
