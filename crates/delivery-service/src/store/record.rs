//! Records as typed values: how logic reads a [`View`] and writes a [`Change`].

use std::ops::ControlFlow;

use folkmoot_mls::codec::{Decode, Encode};

use super::{Change, Partition, Precondition, Put, StoreError, Table, View};

/// The version that every record of this program begins with.
pub(crate) const VERSION: u16 = 1;

/// A value of one table. Its encoding begins with a version, [`VERSION`].
pub(crate) trait Record: Encode + Decode {
    /// Where it is kept.
    const TABLE: Table;

    /// Reads a value of the table.
    fn read(value: &[u8]) -> Result<Self, StoreError> {
        if !value.starts_with(&VERSION.to_be_bytes()) {
            return Err(StoreError::Corrupt(Self::TABLE));
        }
        Self::from_bytes(value).map_err(|_| StoreError::Corrupt(Self::TABLE))
    }
}

/// Declares a record: a structure that begins with its version, and its table.
macro_rules! record {
    (
        $(#[$meta:meta])*
        $name:ident in $table:ident {
            $( $(#[$field_meta:meta])* $field:ident : $type:ty ),* $(,)?
        }
    ) => {
        ::folkmoot_mls::tls_struct! {
            $(#[$meta])*
            #[derive(Clone, Debug, PartialEq, Eq)]
            pub(crate) struct $name {
                /// Of the record's form.
                pub(crate) version: u16,
                $( $(#[$field_meta])* pub(crate) $field: $type ),*
            }
        }

        impl $crate::store::Record for $name {
            const TABLE: $crate::store::Table = $crate::store::Table::$table;
        }
    };
}
pub(crate) use record;

/// The record at a key.
pub(crate) fn get<R: Record>(
    view: &dyn View,
    partition: impl Into<Partition>,
    key: &[u8],
) -> Result<Option<R>, StoreError> {
    view.get(R::TABLE, partition.into(), key)?
        .map(|value| R::read(&value))
        .transpose()
}

/// Whether there is a record at a key. It is not read, however large it is.
pub(crate) fn has<R: Record>(
    view: &dyn View,
    partition: impl Into<Partition>,
    key: &[u8],
) -> Result<bool, StoreError> {
    view.has(R::TABLE, partition.into(), key)
}

/// Visits the records from key to key, both included.
pub(crate) fn scan<R: Record>(
    view: &dyn View,
    partition: impl Into<Partition>,
    from: &[u8],
    through: &[u8],
    mut visit: impl FnMut(&[u8], R) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let mut outcome = Ok(());
    view.scan(
        R::TABLE,
        partition.into(),
        from,
        through,
        &mut |key, value| match R::read(&value) {
            Ok(record) => visit(key, record),
            Err(error) => {
                outcome = Err(error);
                ControlFlow::Break(())
            }
        },
    )?;
    outcome
}

impl Change {
    /// A change of a partition, empty so far.
    pub(crate) fn of(partition: impl Into<Partition>) -> Self {
        Self {
            partition: partition.into(),
            requires: Vec::new(),
            deletes: Vec::new(),
            puts: Vec::new(),
        }
    }

    /// Rests on a record being as it was loaded, or absent as it was.
    pub(crate) fn require<R: Record>(&mut self, key: &[u8], record: Option<&R>) {
        self.requires.push(Precondition {
            table: R::TABLE,
            key: key.to_vec(),
            value: record.map(Encode::to_bytes),
        });
    }

    /// Writes a record.
    pub(crate) fn put<R: Record>(&mut self, key: &[u8], record: &R) {
        self.put_until(key, record, None);
    }

    /// Writes a record that is swept away at a time (milliseconds since 1970).
    pub(crate) fn put_until<R: Record>(&mut self, key: &[u8], record: &R, expires: Option<u64>) {
        self.puts.push(Put {
            table: R::TABLE,
            key: key.to_vec(),
            value: record.to_bytes(),
            expires,
        });
    }

    /// Deletes a record.
    pub(crate) fn delete<R: Record>(&mut self, key: &[u8]) {
        self.deletes.push((R::TABLE, key.to_vec()));
    }
}
