import cv2

from lus_lightning.simulator.command import simulate_command


def test_the_preview_is_a_sheet_of_four_scores(tmp_path, capsys):
    simulate_command(str(tmp_path / "sheet"), study="tiny", preview=True)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (4 * 96, 8 * 96, 3)
    assert [sheet[row * 96 : (row + 1) * 96].std() > 5 for row in range(4)] == [True] * 4
    assert not (tmp_path / "sheet").exists()


def test_the_command_writes_a_study_and_says_so(tmp_path, capsys):
    simulate_command(str(tmp_path / "out"), study="tiny", patients=2, frames=2, workers=1)
    assert (tmp_path / "out" / "index.csv").is_file()
    assert "simulated study tiny" in capsys.readouterr().out
