import os

from agents.files.removal import remove_tree


def test_a_tree_is_removed_and_what_its_links_lead_to_stays(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    root = tmp_path / "work" / "a-1"
    (root / "b" / "c").mkdir(parents=True)
    (root / "b" / "file").write_text("x")
    (root / "b" / "link").symlink_to(outside)
    (root / "dangling").symlink_to("nowhere")
    (root / "b" / "c").chmod(0)
    remove_tree(root)
    assert (outside / "kept").read_text() == "x"
    assert list((tmp_path / "work").iterdir()) == []
    remove_tree(root)


def test_a_tree_deeper_than_python_can_recurse_is_removed(tmp_path):
    root = tmp_path / "deep"
    root.mkdir()
    here = os.open(root, os.O_RDONLY)
    for _ in range(3_000):
        os.mkdir("d" * 100, dir_fd=here)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    remove_tree(root)
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_the_place_of_the_folder_is_removed_itself(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    remove_tree(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
