"""What a thermometer should read now, by its neighbours and its own other channels: calibration, gaps and faults."""

from scipy.stats import loguniform
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from quietfleet.pipeline import Advice, Channel, Features, Project, Randomised

project = Project(
    name="virtual-sensor",
    schema={
        "temp": Channel("°C", -60, 60, resolution=0.1),
        "dewp": Channel("°C", -80, 40, resolution=0.1),
        "humid": Channel("%", 0, 100, resolution=0.5),
        "wind_speed": Channel("m/s", 0, 75, resolution=0.1, stuck_after=24),  # a calm night is no fault
    },
    features=Features(
        target="temp",
        horizon=0,
        period=3600,
        now=("dewp", "humid", "wind_speed"),
        peers=("temp", "dewp", "humid", "wind_speed"),
        clock=True,
    ),
    model=make_pipeline(StandardScaler(), Ridge()),
    search=Randomised({"ridge__alpha": loguniform(1e-3, 1e3)}, tries=12),
    tolerance=1.0,
    advice=Advice.CHECK,
    personal=True,
)
