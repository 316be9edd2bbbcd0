"""All scores together, their record, and how samples are drawn and scored in `fit`."""

import importlib
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo import metrics, random
from tfzoo.datasets import ImageDataset, ImageSplit, load_images
from tfzoo.metrics import (
    FeatureNetwork,
    SampleScorer,
    SampleScores,
    draw_samples,
    sample_scores,
    sampler,
)

RNG = np.random.default_rng(0)
DIGITS = load_images("digits")


def pixels(images):
    """The pixels as features, and two classes by brightness."""
    flat = tf.reshape(images, [tf.shape(images)[0], 64])
    white = (tf.reduce_mean(flat, axis=1) + 1) / 2
    return flat, tf.stack([white, 1 - white], axis=1)


NETWORK = FeatureNetwork("pixels", pixels, "12ab", image_shape=(8, 8, 1), accuracy=0.9)


class Fader(keras.Model):
    """A model that draws digits, and forgets how as it is fitted."""

    value_range = (-1.0, 1.0)

    def __init__(self):
        super().__init__()
        self.share = self.add_weight(shape=(), initializer="ones", trainable=False)
        self.digits = tf.constant(DIGITS.train.images / 127.5 - 1, tf.float32)
        self.traces = 0

    def sample_from(self, num, seed):
        self.traces += 1
        digits = tf.gather(self.digits, random.integers([num], seed, 1000))
        noise = random.uniform(tf.shape(digits), seed, -1.0, 1.0)
        return self.share * digits + (1.0 - self.share) * noise

    def train_step(self, data):
        self.share.assign(self.share * 0.3)
        return {"share": self.share.value}


def test_scores_are_those_of_each_function():
    samples = DIGITS.train.images[:150] / 255
    scores = sample_scores(samples, DIGITS, value_range=(0, 1), network=NETWORK)
    fake = NETWORK(samples, value_range=(0, 1))
    real = NETWORK(DIGITS.test.images, value_range=(0, 255))
    expected = {
        "frechet_distance": metrics.frechet_distance(real.features, fake.features),
        "classifier_score": metrics.classifier_score(fake.probabilities)[0],
        "classifier_score_of_data": metrics.classifier_score(real.probabilities)[0],
        "sharpness": metrics.sharpness(samples, value_range=(0, 1)),
        "sharpness_of_data": metrics.sharpness(
            DIGITS.test.images, value_range=(0, 255)
        ),
    }
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, rel=1e-4), name
    mmd = metrics.unbiased_squared_mmd(real.features, fake.features)
    assert abs(scores["kernel_distance"] - mmd) < 3 * scores["kernel_distance_stddev"]
    assert 0.5 < scores["precision"] <= 1
    assert 0.5 < scores["recall"] <= 1


def test_classes_are_counted_by_a_network_of_the_classes_of_the_data():
    samples = DIGITS.train.images[:50]

    def three_classes(images):
        features, _ = pixels(images)
        classes = tf.range(tf.shape(images)[0]) % 3
        return features, tf.one_hot(classes, 10)

    network = FeatureNetwork("three", three_classes, "34cd", image_shape=(8, 8, 1))
    scores = sample_scores(samples, DIGITS, value_range=(0, 255), network=network)
    assert scores["classes_covered"] == 3
    # 17, 17 and 16 of 50, of ten classes.
    shares = np.array([17, 17, 16]) / 50
    expected = np.sum(shares * np.log(10 * shares))
    assert scores["classes_kl_divergence"] == pytest.approx(expected)
    others = sample_scores(samples, DIGITS, value_range=(0, 255), network=NETWORK)
    assert "classes_covered" not in others


def test_classifier_score_is_a_mean_over_splits():
    # One class after the other, which are no splits to take of real images.
    order = np.argsort(DIGITS.test.images.mean(axis=(1, 2, 3)))
    ordered = ImageSplit(DIGITS.test.images[order], DIGITS.test.labels[order])
    dataset = ImageDataset("ordered", DIGITS.train, ordered)
    samples = DIGITS.train.images[:50]
    probabilities = NETWORK(samples, value_range=(0, 255)).probabilities
    expected = metrics.classifier_score(probabilities, num_splits=5)
    whole, split = (
        sample_scores(
            samples, dataset, value_range=(0, 255), network=NETWORK, num_splits=num
        )
        for num in (1, 5)
    )
    names = "classifier_score", "classifier_score_stddev"
    assert tuple(split[name] for name in names) == pytest.approx(expected)
    assert (whole["num_splits"], whole["classifier_score_stddev"]) == (1, 0)
    assert split["num_splits"] == 5
    excess, excess_of_split = (
        each["classifier_score_of_data"] - 1 for each in (whole, split)
    )
    assert excess_of_split == pytest.approx(excess, rel=0.1)


def test_data_without_labels_have_no_classes_to_cover():
    bare = ImageDataset("bare", *[ImageSplit(DIGITS.test.images, None)] * 2)
    samples = DIGITS.train.images[:50]
    scores = sample_scores(samples, bare, value_range=(0, 255), network=NETWORK)
    assert scores["frechet_distance"] > 0
    assert "classes_covered" not in scores


def test_record_names_all_that_scores_depend_on():
    samples = DIGITS.train.images[:50]
    scores = sample_scores(
        samples,
        DIGITS,
        value_range=(0, 255),
        network=NETWORK,
        split="train",
        binarize="threshold",
    )
    record = {
        "split": "train",
        "binarize": "threshold",
        "num_samples": 50,
        "num_real": 1437,
        "num_neighbors": 3,
        "kernel_subsets": [20, 25],
        "num_splits": 1,
        "features": "pixels",
        "features_hash": "12ab",
        "features_accuracy": 0.9,
        "resizer": "none",
    }
    assert {name: scores[name] for name in record} == record
    assert json.loads(json.dumps(scores)) == scores


def test_worse_samples_score_worse():
    scorer = SampleScorer(DIGITS, NETWORK)
    images = DIGITS.train.images[:200] / 255
    noisy = np.clip(images + 0.2 * RNG.normal(size=images.shape), 0, 1)
    real, worse = (scorer(x, value_range=(0, 1)) for x in (images, noisy))
    for name in ("frechet_distance", "kernel_distance", "sharpness"):
        assert worse[name] > real[name], name
    assert worse["precision"] < real["precision"]
    one_class = images[DIGITS.train.labels[:200] == 1]
    dropped = scorer(one_class, value_range=(0, 1))
    assert dropped["recall"] < 0.6 * real["recall"]


def test_binary_samples_are_compared_with_binary_images():
    white = (DIGITS.train.images[:300] >= 128).astype(np.float32)
    grey, binary = (
        sample_scores(
            white, DIGITS, value_range=(0, 1), network=NETWORK, binarize=binarize
        )["frechet_distance"]
        for binarize in (None, "threshold")
    )
    assert binary < 0.7 * grey


def test_same_seed_same_scores():
    samples = DIGITS.train.images[:60]
    first, again, other = (
        sample_scores(samples, DIGITS, value_range=(0, 255), network=NETWORK, seed=seed)
        for seed in (0, 0, 1)
    )
    assert again == first != other


def test_default_network_is_a_classifier_of_the_data(monkeypatch):
    monkeypatch.setattr(
        # (The name of the module is that of a function in the package, too.)
        importlib.import_module("tfzoo.metrics.sample_scores"),
        "feature_classifier",
        lambda dataset: NETWORK if dataset is DIGITS else None,
    )
    scores = sample_scores(DIGITS.train.images[:9], DIGITS, value_range=(0, 255))
    assert scores["features"] == "pixels"


def test_samples_are_drawn_in_batches_of_one_size():
    model = Fader()
    samples = draw_samples(model, 25, batch_size=10, seed=3)
    assert samples.shape == (25, 8, 8, 1)
    assert samples.dtype == np.float32
    assert model.traces == 1
    # Each batch has noise of its own, and more samples begin with the fewer.
    assert (samples[:10] != samples[10:20]).any()
    draw = sampler(model, 10)
    np.testing.assert_array_equal(draw(35, 3)[:25], samples)
    assert (draw(25, 4) != samples).any()
    assert model.traces == 2
    # As the model is now, not as it was when first asked.
    model.share.assign(0.0)
    assert (draw(25, 3) != samples).any()
    assert model.traces == 2


def test_scores_are_shown_by_fit():
    model = Fader()
    model.compile()
    scorer = SampleScorer(DIGITS, NETWORK)
    callback = SampleScores(scorer, num_samples=200)
    data = tf.data.Dataset.from_tensors(tf.zeros([1])).repeat()
    history = model.fit(
        data,
        epochs=2,
        steps_per_epoch=1,
        shuffle=False,
        verbose=0,
        callbacks=[callback],
    ).history
    assert history["frechet_distance"][0] < history["frechet_distance"][1]
    assert set(history) == {
        "share",
        "frechet_distance",
        "kernel_distance",
        "precision",
        "recall",
    }
    samples = draw_samples(model, 200)
    scores = scorer(samples, value_range=(-1, 1))
    assert history["frechet_distance"][1] == pytest.approx(scores["frechet_distance"])
    assert model.traces == 2


def test_fit_shows_what_the_scorer_says():
    class Counter:
        shown = ("num",)

        def __call__(self, samples, *, value_range):
            return {"num": len(samples), "value_range": value_range}

    model = Fader()
    callback = SampleScores(Counter(), num_samples=30)
    callback.set_model(model)
    callback.on_train_begin()
    logs = {"share": 1.0}
    callback.on_epoch_end(0, logs)
    assert logs == {"share": 1.0, "num": 30}
    model.share.assign(np.nan)
    callback.on_epoch_end(1, logs)
    assert np.isnan(logs["num"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: sample_scores(
                DIGITS.train.images[:3], DIGITS, value_range=(0, 255), network=NETWORK
            ),
            "scores need at least 4 samples, got 3",
        ),
        (
            lambda: SampleScorer(
                ImageDataset("few", DIGITS.train, ImageSplit(DIGITS.test[0][:3], None)),
                NETWORK,
            ),
            "few has 3 images to test, and scores need at least 4",
        ),
        (
            lambda: sample_scores(
                np.zeros([9, 8, 8, 3]), DIGITS, value_range=(0, 1), network=NETWORK
            ),
            r"pixels takes images \[N, 8, 8, 1\], got \[9, 8, 8, 3\]",
        ),
        (
            lambda: sample_scores(
                DIGITS.train.images[:9],
                ImageDataset("bare", *[ImageSplit(DIGITS.test.images, None)] * 2),
                value_range=(0, 255),
            ),
            "bare has no labels",
        ),
        (lambda: draw_samples(Fader(), 0), "num must be at least 1, got 0"),
        (lambda: sampler(Fader(), 0), "batch_size must be at least 1, got 0"),
        (lambda: sampler(keras.Model()), "Model has no sample_from"),
    ],
)
def test_wrong_use_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
