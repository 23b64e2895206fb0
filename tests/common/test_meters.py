"""The published meters: a running average and top-k accuracy."""
from ops.common.meters import AverageMeter


def test_average_meter_weighs_by_count():
    meter = AverageMeter()
    assert (meter.val, meter.avg, meter.sum, meter.count) == (0, 0, 0, 0)
    meter.update(2.0, 3)
    meter.update(10.0)
    assert (meter.val, meter.avg, meter.sum, meter.count) == (10.0, 4.0, 16.0, 4)
    meter.update(7.0, 0)
    assert (meter.val, meter.avg) == (7.0, 4.0)
    meter.reset()
    assert (meter.val, meter.avg, meter.sum, meter.count) == (0, 0, 0, 0)
