//! Where `tidegate.yaml` is looked for.

use std::path::{Path, PathBuf};

/// Name of the file.
const NAME: &str = "tidegate.yaml";

/// The usual places, in the order they are looked in: the working directory, the user's configuration, the system's.
pub(crate) fn usual_places(config_home: Option<&Path>, home: Option<&Path>) -> Vec<PathBuf> {
    let user = config_home.map(Path::to_path_buf).or_else(|| home.map(|home| home.join(".config")));
    let user = user.map(|dir| dir.join("tidegate").join(NAME));
    [Some(PathBuf::from(NAME)), user, Some(Path::new("/etc/tidegate").join(NAME))]
        .into_iter()
        .flatten()
        .collect()
}

/// The first of the places that has a file.
pub(crate) fn find(places: &[PathBuf]) -> Option<&PathBuf> {
    places.iter().find(|place| place.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_working_directory_comes_first() {
        let places = usual_places(None, Some(Path::new("/home/me")));
        let texts: Vec<_> = places.iter().map(|p| p.to_str().unwrap()).collect();
        assert_eq!(
            texts,
            ["tidegate.yaml", "/home/me/.config/tidegate/tidegate.yaml", "/etc/tidegate/tidegate.yaml"]
        );
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(NAME);
        std::fs::write(&file, "").unwrap();
        assert_eq!(find(&[dir.path().join("other"), file.clone()]), Some(&file));
    }
}
