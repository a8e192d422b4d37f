//! The file `place` of a state folder: what it is to the file system, and the note in it.

use crate::base::{file::sync_folder, moment::Moment};
use data_encoding::HEXLOWER;
use rustix::fs::fstatvfs;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// The place of a state: what its file is to the file system, and what no copy of the file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatePlace {
    /// The number of the file.
    pub inode: u64,
    /// When the file was made, in nanoseconds since 1970; nothing where the file system does not say.
    pub birth: Option<u64>,
    /// The id of the file system, where it has one that stays.
    pub file_system: Option<u64>,
}

impl StatePlace {
    fn from_file(file: &File) -> io::Result<StatePlace> {
        let metadata = file.metadata()?;
        let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let birth = born.and_then(|since| u64::try_from(since.as_nanos()).ok()).filter(|nanos| *nanos > 0);
        let file_system = file_system_id_if_stable(fstatvfs(file)?.f_fsid);
        Ok(StatePlace { inode: metadata.ino(), birth, file_system })
    }
}

/// Returns the id of a file system, unless it is made of the number of its device (XFS, and overlays over it): that number
/// can be another one after a boot. An id made of 64 bits of a UUID stays.
fn file_system_id_if_stable(id: u64) -> Option<u64> {
    (id >> u32::BITS != 0).then_some(id)
}

/// What is written down of a place when a state begins there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceNote {
    /// A random word, by which the note in the file and the one in the journal are known to be one.
    pub token: String,
    pub place: StatePlace,
    /// The machine and the folder, for people.
    pub host: String,
    pub path: PathBuf,
    /// When it was written.
    pub at: Moment,
}

/// The file `place` as it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlaceFile {
    /// What the file is.
    pub(super) place: StatePlace,
    /// The note in it.
    pub(super) note: PlaceNote,
    /// Whether another folder has the same file, by a link.
    pub(super) is_shared: bool,
}

impl PlaceFile {
    /// Reads the file of a state folder; nothing where there is none. A file that does not read is no place, and
    /// nobody acts there before it is taken over.
    pub(super) fn read(state: &Path) -> io::Result<Option<PlaceFile>> {
        let path = place_path(state);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let place = StatePlace::from_file(&file)?;
        let is_shared = fs::symlink_metadata(&path)?.is_symlink() || file.metadata()?.nlink() > 1;
        let note = serde_json::from_slice(&fs::read(&path)?)?;
        Ok(Some(PlaceFile { place, note, is_shared }))
    }

    /// Returns the note, where the file is the one for which it was written.
    pub(super) fn note_if_original_file(&self) -> Option<&PlaceNote> {
        Some(&self.note).filter(|note| note.place == self.place && !self.is_shared)
    }
}

/// Writes a new file `place`, on disk when this returns, and returns the note in it. A crash leaves the former file or none.
pub(super) fn write_place_file(state: &Path, at: Moment) -> io::Result<PlaceNote> {
    let mut file = tempfile::NamedTempFile::new_in(state)?;
    let note = PlaceNote {
        token: random_token()?,
        // Renaming keeps what it is.
        place: StatePlace::from_file(file.as_file())?,
        host: current_host_name(),
        path: fs::canonicalize(state)?,
        at: at.round_up_to_second(),
    };
    writeln!(file, "{}", serde_json::to_string(&note)?)?;
    file.as_file().sync_all()?;
    let path = place_path(state);
    if path.is_dir() {
        set_unreadable_file_aside(&path)?;
    }
    file.persist(path).map_err(|e| e.error)?;
    sync_folder(state)?;
    Ok(note)
}

/// Renames what stands in the place of a file of the state and does not read, so that the file can be written anew.
pub(super) fn set_unreadable_file_aside(path: &Path) -> io::Result<()> {
    fs::rename(path, path.with_extension(format!("unreadable-{}", random_token()?)))
}

/// Returns the path of the file.
pub(super) fn place_path(state: &Path) -> PathBuf {
    state.join("place")
}

/// Returns the name of this machine.
pub(super) fn current_host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn random_token() -> io::Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(HEXLOWER.encode(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_noon() -> Moment {
        Moment::parse("2026-11-20T12:00:00Z").expect("a moment")
    }

    #[test]
    fn a_place_stays_where_it_is_moved_and_not_where_it_is_copied() {
        let folder = tempfile::tempdir().expect("a folder");
        let [first, moved, copied] = ["a", "b", "c"].map(|name| folder.path().join(name));
        fs::create_dir(&first).expect("made");
        let note = write_place_file(&first, at_noon()).expect("written");
        let read = |state: &Path| PlaceFile::read(state).expect("reads").expect("is there");
        assert_eq!(read(&first).note_if_original_file(), Some(&note));
        fs::rename(&first, &moved).expect("moved");
        assert_eq!(read(&moved).note_if_original_file(), Some(&note), "a move is no copy");
        fs::create_dir(&copied).expect("made");
        fs::copy(place_path(&moved), place_path(&copied)).expect("copied");
        assert_eq!((read(&copied).note_if_original_file(), read(&copied).note), (None, note.clone()));
        let again = write_place_file(&copied, at_noon()).expect("written");
        assert_ne!((&again.token, &again.place), (&note.token, &note.place));
        assert_eq!(read(&copied).note_if_original_file(), Some(&again));
    }

    #[test]
    fn a_place_that_another_folder_has_too_is_nobodys() {
        let folder = tempfile::tempdir().expect("a folder");
        let [first, linked, symbolic] = ["a", "b", "c"].map(|name| folder.path().join(name));
        for state in [&first, &linked, &symbolic] {
            fs::create_dir(state).expect("made");
        }
        write_place_file(&first, at_noon()).expect("written");
        std::os::unix::fs::symlink(place_path(&first), place_path(&symbolic)).expect("linked");
        let read = |state: &Path| PlaceFile::read(state).expect("reads").expect("is there");
        assert!(
            read(&first).note_if_original_file().is_some()
                && read(&symbolic).note_if_original_file().is_none()
        );
        fs::hard_link(place_path(&first), place_path(&linked)).expect("linked");
        assert!(
            read(&first).note_if_original_file().is_none() && read(&linked).note_if_original_file().is_none()
        );
    }

    #[test]
    fn a_file_that_does_not_read_is_no_place() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(PlaceFile::read(folder.path()).expect("reads"), None);
        fs::write(place_path(folder.path()), "somewhere").expect("written");
        assert!(PlaceFile::read(folder.path()).is_err());
    }

    #[test]
    fn a_place_on_another_file_system_is_another_one() {
        let here = StatePlace { inode: 7, birth: Some(1), file_system: Some(1 << 40) };
        for other in [
            StatePlace { inode: 8, ..here.clone() },
            StatePlace { birth: Some(2), ..here.clone() },
            StatePlace { birth: None, ..here.clone() },
            StatePlace { file_system: Some(2 << 40), ..here.clone() },
        ] {
            assert_ne!(here, other);
        }
    }

    #[test]
    fn the_number_of_a_device_is_no_lasting_id() {
        // XFS gives the number of its device; ext4 and an overlay give halves of a UUID.
        assert_eq!(file_system_id_if_stable(0xfe00), None);
        assert_eq!(file_system_id_if_stable(0), None);
        let of_uuid = 0xee6a_4b2d_a579_13f1;
        assert_eq!(file_system_id_if_stable(of_uuid), Some(of_uuid));
    }
}
