"""The name under which an engine knows its model."""

from services.worker.adapters.alias import named

NAME = "u-8105f7322477/test"


def test_in_the_instances_folder_the_name_is_that_of_the_newest_weights(tmp_path):
    folder = tmp_path / "instance"
    for weights in ("old", "new"):
        model = tmp_path / weights
        model.mkdir()
        with named(model, NAME, folder) as works_in:
            assert works_in == folder
            assert (folder / NAME).resolve() == model


def test_without_a_folder_one_is_made_that_goes_again_and_leaves_the_weights(tmp_path):
    (tmp_path / "config.json").touch()
    with named(tmp_path, NAME, None) as works_in:
        assert (works_in / NAME / "config.json").is_file()

    assert not works_in.exists()
    assert (tmp_path / "config.json").is_file()
