"""A building's next hours: the temperature three hours ahead, from the last day of its own sensor."""

from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from quietfleet.pipeline import Advice, Autonomy, Channel, Features, Grid, Project

project = Project(
    name="forecast",
    schema={
        "temp": Channel("°C", -60, 60, resolution=0.1),
        "dewp": Channel("°C", -80, 40, resolution=0.1),
        "humid": Channel("%", 0, 100, resolution=0.5),
        "wind_speed": Channel("m/s", 0, 75, resolution=0.1, stuck_after=24),  # a calm night is no fault
    },
    features=Features(
        target="temp",
        horizon=3,
        period=3600,
        now=("temp", "dewp", "humid", "wind_speed"),
        lags={"temp": (1, 2, 3, 6, 12, 24)},
        clock=True,
    ),
    model=make_pipeline(StandardScaler(), Ridge()),
    search=Grid({"ridge__alpha": (0.01, 0.1, 1.0, 10.0, 100.0)}),
    tolerance=2.0,
    advice=Advice.VENTILATION,
    personal=True,
    autonomy=Autonomy(max_shift=1.0),  # a roof that warms in the sun, not a sensor that fails
)
