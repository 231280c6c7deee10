"""Detectors in Keras of the kinds that people train, small enough to be trained in a test."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from swings import CHANNELS, WINDOW, Windows, readings

from edgetool.frameworks.keras.starting import start

__all__ = ["BUILDERS", "keras", "tensorflow", "trained"]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    tensorflow, keras = start()
L = keras.layers


def _chain(*layers: Any, shape: tuple[int | None, ...] = (WINDOW, CHANNELS)) -> Any:
    return keras.Sequential([keras.Input(shape), *layers])


def dense() -> Any:
    """Of rows around 100, with the scaling that it has learnt."""
    scaling = L.Normalization()
    scaling.adapt(readings(offset=100.0))
    mean, variance = (np.asarray(each)[0] for each in (scaling.mean, scaling.variance))
    back = L.Normalization(mean=mean, variance=variance, invert=True)
    hidden = (L.Dense(8, activation="gelu"), L.Dropout(0.1), L.BatchNormalization(), L.Dense(2), L.LeakyReLU())
    return _chain(scaling, *hidden, L.Dense(8, activation="swish"), L.Dense(CHANNELS), back, shape=(CHANNELS,))


def convolution() -> Any:
    """Halves the time twice, and gives it back."""
    return _chain(
        L.Conv1D(8, 5, strides=2, padding="same", activation="relu"),
        L.Conv1D(4, 3, strides=2, padding="same", activation="relu"),
        L.Conv1DTranspose(8, 3, strides=2, padding="same", activation="relu"),
        L.Conv1DTranspose(8, 4, strides=2, padding="same", activation="relu"),
        L.Conv1D(CHANNELS, 3, padding="same"),
    )


def pooled() -> Any:
    """By pooling and repetition."""
    return _chain(
        L.GaussianNoise(0.1),
        L.SeparableConv1D(8, 3, padding="same", activation="elu"),
        L.MaxPooling1D(2),
        L.Conv1D(8, 3, padding="same", groups=2, activation="softplus"),
        L.AveragePooling1D(2, padding="same"),
        L.UpSampling1D(4),
        L.Conv1D(CHANNELS, 3, padding="same"),
    )


def causal() -> Any:
    """Convolutions that see the past alone, with gaps; the length of the window is open."""
    return _chain(
        L.Conv1D(8, 3, padding="causal", activation="relu"),
        L.Conv1D(8, 3, padding="causal", dilation_rate=2, activation="relu"),
        L.Conv1D(8, 3, padding="causal", dilation_rate=4, activation="tanh"),
        L.TimeDistributed(L.LayerNormalization()),
        L.Dense(CHANNELS),
        shape=(None, CHANNELS),
    )


def lstm() -> Any:
    """The usual one."""
    decoder = (L.LSTM(8, return_sequences=True), L.TimeDistributed(L.Dense(CHANNELS)))
    return _chain(L.LSTM(8), L.RepeatVector(WINDOW), *decoder)


def lstm_of_states() -> Any:
    """The decoder begins with the encoder's states."""
    given = keras.Input((WINDOW, CHANNELS), name="window")
    _, hidden, cell = L.LSTM(8, return_state=True)(given)
    repeated = L.RepeatVector(WINDOW)(hidden)
    decoder = L.LSTM(8, return_sequences=True, go_backwards=True, activation="hard_sigmoid")
    decoded = decoder(repeated, initial_state=[hidden, cell])
    return keras.Model(given, L.TimeDistributed(L.Dense(CHANNELS))(decoded))


def gru() -> Any:
    """In both directions, and with the older of the two formulas."""
    return _chain(
        L.Bidirectional(L.GRU(6, return_sequences=True)),
        L.GRU(8, reset_after=False, return_sequences=True, recurrent_activation="hard_sigmoid"),
        L.SimpleRNN(8, return_sequences=True),
        L.TimeDistributed(L.Dense(CHANNELS)),
    )


def attention() -> Any:
    """A small transformer."""
    given = keras.Input((WINDOW, CHANNELS))
    wide = L.Dense(8)(given)
    seen = L.LayerNormalization()(L.Add()([wide, L.MultiHeadAttention(2, 4)(wide, wide, use_causal_mask=True)]))
    mixed = L.Concatenate()([seen, L.Attention()([seen, seen])])
    return keras.Model(given, L.Dense(CHANNELS)(mixed))


def variational() -> Any:
    """As a VAE is exported: the mean in place of a sample; mean and variance are outputs, too."""
    given = keras.Input((CHANNELS,))
    hidden = L.Dense(8, activation="tanh")(given)
    mean, spread = L.Dense(2, name="mean")(hidden), L.Dense(2, name="log_variance")(hidden)
    decoder = keras.Sequential([keras.Input((2,)), L.Dense(8, activation="tanh"), L.Dense(CHANNELS)], name="rebuilt")
    return keras.Model(given, [decoder(mean), mean, keras.ops.exp(0.5 * spread)])


def several() -> Any:
    """Answers a dictionary."""
    given = keras.Input((WINDOW, CHANNELS), name="window")
    code = L.Dense(6, activation="tanh")(L.Flatten()(given))
    rebuilt = L.Reshape((WINDOW, CHANNELS))(L.Dense(WINDOW * CHANNELS)(code))
    return keras.Model(given, {"rebuilt": rebuilt, "code": code})


def channels_first() -> Any:
    """Takes and gives (channels, time)."""
    inner = (L.Conv1D(6, 3, padding="same", activation="relu"), L.Conv1D(CHANNELS, 3, padding="same"))
    return _chain(L.Permute((2, 1)), *inner, L.Permute((2, 1)), shape=(CHANNELS, WINDOW))


def forecaster() -> Any:
    """The row behind the window."""
    return _chain(L.LSTM(8, return_sequences=True), L.LSTM(8, activation="relu"), L.Dense(CHANNELS))


def masked() -> Any:
    """A layer of which edgetool has no converter: rows of -9 are left out."""
    return _chain(
        L.Masking(-9.0), L.LSTM(8), L.RepeatVector(WINDOW), L.GRU(8, return_sequences=True), L.Dense(CHANNELS)
    )


BUILDERS: dict[str, Callable[[], Any]] = {
    builder.__name__: builder
    for builder in (
        *(dense, convolution, pooled, causal, lstm, lstm_of_states, gru, attention, variational, several),
        *(channels_first, forecaster, masked),
    )
}


def trained(model: Any, given: Windows, wanted: Windows, *, steps: int = 40) -> Any:
    """A model after some steps, so that its answers follow the readings."""
    optimizer = keras.optimizers.Adam(0.01)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        places = rng.integers(0, len(given), 64)
        with tensorflow.GradientTape() as tape:
            answer = model(given[places], training=True)
            first = answer["rebuilt"] if isinstance(answer, dict) else answer[0] if isinstance(answer, list) else answer
            loss = keras.ops.mean(keras.ops.square(first - wanted[places]))
        # Some outputs, such as a variance, have no part in this error.
        pairs = zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        optimizer.apply_gradients([(slope, variable) for slope, variable in pairs if slope is not None])
    return model
