//! File systems that several machines may share: locks and syncs there are not what a journal takes them for.

use std::{io, path::Path};

/// The numbers by which Linux tells such file systems, and their names.
const SHARED_FILE_SYSTEMS: &[(u32, &str)] = &[
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x0102_1997, "9p"),
    // virtiofs has the number of FUSE, and what else is behind FUSE nobody can tell from here: sshfs, buckets.
    (0x6573_5546, "FUSE (virtiofs, sshfs and others)"),
    (0x00c3_6400, "CephFS"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x0bd0_0bd0, "Lustre"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x786f_4256, "VirtualBox's shared folders"),
    (0xbacb_acbc, "VMware's shared folders"),
    (0x4750_4653, "GPFS"),
];

/// Returns the name of a file system that several machines may share, by the number that `statfs` gives for its type.
pub fn name_if_shared_file_system(magic: u32) -> Option<&'static str> {
    SHARED_FILE_SYSTEMS.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name)
}

/// Returns the number for the type of the file system of a folder; nothing where the system has no such numbers.
pub(super) fn read_file_system_type(folder: &Path) -> io::Result<Option<u32>> {
    #[cfg(target_os = "linux")]
    {
        // The word is wider than the number on some machines and signed on others: its lower half is the number.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the lower half is meant"
        )]
        Ok(Some(rustix::fs::statfs(folder)?.f_type as u32))
    }
    #[cfg(not(target_os = "linux"))]
    {
        drop(folder);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_machines_share_is_told_from_a_disk_of_ones_own() {
        for (magic, name) in
            [(0x6969, "NFS"), (0xff53_4d42, "CIFS"), (0xfe53_4d42, "SMB"), (0x0102_1997, "9p")]
        {
            assert_eq!(name_if_shared_file_system(magic), Some(name));
        }
        assert!(name_if_shared_file_system(0x6573_5546).is_some_and(|name| name.contains("virtiofs")));
        // ext4, XFS, Btrfs, an overlay, tmpfs, ZFS.
        for own in [0xef53, 0x5846_5342, 0x9123_683e, 0x794c_7630, 0x0102_1994, 0x2fc1_2fc1] {
            assert_eq!(name_if_shared_file_system(own), None, "{own:x}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_number_of_a_folder_is_read() {
        const PROC: u32 = 0x9fa0;
        assert_eq!(read_file_system_type(Path::new("/proc")).expect("reads"), Some(PROC));
    }
}
