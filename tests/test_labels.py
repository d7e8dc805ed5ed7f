from lus_lightning.labels import ZONES


def test_a_protocol_is_named_by_its_number_of_zones_and_names_each_once():
    for protocol, zones in ZONES.items():
        assert len(set(zones)) == len(zones) == int(protocol)
