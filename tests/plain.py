"""The whole science in plain float64 loops, from raw traces to series: what the options are compared with.

Everything is for whole chunks at the target rate, written from the formulas in docs/, without the project's functions.
"""

from __future__ import annotations

import itertools

import numpy as np
import reference
import scipy.fft
import scipy.signal
import scipy.stats

RATE = 4.0


def runs(flags):
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(flags, int), [0]])))
    return list(zip(edges[::2], edges[1::2], strict=True))


def conditioned(raw, s):
    """Condition one chunk of a channel, NaN where there are no data; returns data and mask at the target rate."""
    c = s.condition
    x = np.array(raw, float)
    if c.max_gap_s:
        for a, b in runs(np.isnan(x)):
            if a > 0 and b < len(x) and (b - a) <= c.max_gap_s * RATE:
                x[a:b] = np.linspace(x[a - 1], x[b], b - a + 2)[1:-1]
    if c.zeros_are_gaps_s:
        for a, b in runs(x == 0):
            if b - a >= c.zeros_are_gaps_s * RATE:
                x[a:b] = np.nan
    data, mask = np.zeros(len(x)), np.zeros(len(x), bool)
    edge = 2 / c.band_hz[0] if c.edge_s == "auto" else c.edge_s
    for a, b in runs(~np.isnan(x)):
        if b - a > 2 * edge * RATE:
            data[a:b], mask[a:b] = reference.conditioned(x[a:b], RATE, c.band_hz, c.corners, edge)
    factor = round(RATE / c.rate_hz)
    return data[::factor], mask[::factor]


def positions(s, samples):
    w = s.window
    length, step = round(w.length_s * s.condition.rate_hz), round(w.step_s * s.condition.rate_hz)
    return [slice(k, k + length) for k in range(0, samples - length + 1, step)]


def accepted(data, mask, raw, s, events):
    """Return whether each window is used."""
    q, rate = s.quality, s.condition.rate_hz
    cuts = positions(s, len(data))
    sigma = np.sqrt(np.mean(data[mask] ** 2)) if mask.any() else 0
    rms = [np.sqrt(np.sum(data[k] ** 2) / max(mask[k].sum(), 1)) for k in cuts]
    middle = np.median([r for r, k in zip(rms, cuts, strict=True) if mask[k].any()] or [0])
    good = []
    for r, k in zip(rms, cuts, strict=True):
        x, m = data[k], mask[k]
        ok = m.any() and m.mean() >= s.window.min_coverage
        if ok and q.max_over_std:
            ok = np.abs(x).max() <= q.max_over_std * sigma
        if ok and q.kurtosis:
            ok = np.mean(x[m] ** 4) <= q.kurtosis * np.mean(x[m] ** 2) ** 2
        if ok and q.dead:
            ok = r >= q.dead * middle
        if ok and q.sta_lta:
            ok = max(ratio(data, mask, t, q, rate) for t in range(k.start, k.stop) if mask[t]) <= q.sta_lta
        if ok and q.clipped:
            here = raw[round(k.start * RATE / rate) : round(k.stop * RATE / rate)]
            whole = raw[~np.isnan(raw)]
            flat = sum(b - a for e in (whole.max(), whole.min()) for a, b in runs(here == e) if b - a >= 3)
            ok = flat / len(here) <= q.clipped
        for begin, end in events:
            ok = ok and not (begin < k.stop / rate and k.start / rate < end)
        good.append(bool(ok))
    return np.array(good)


def ratio(data, mask, t, q, rate):
    means = []
    for seconds in (q.sta_s, q.lta_s):
        n = round(seconds * rate / 2)
        near = slice(max(0, t - n), t + n + 1)
        means.append(np.mean(data[near][mask[near]] ** 2))
    return means[0] / means[1]


def normalized(data, mask, s):
    """Normalise the channels of a station: data, mask [channel, sample]."""
    n, rate = s.normalize, s.condition.rate_hz
    window_s = 0.5 / s.condition.band_hz[0] if n.window_s == "auto" else n.window_s
    half = max(0, round((window_s * rate - 1) / 2))

    def share(weights):
        if n.per == "channel":
            return weights
        valid = np.maximum(mask.sum(axis=0), 1)
        return np.array([(np.array(weights) * mask).sum(axis=0) / valid] * len(data))

    def smooth(x, m, triangle=False):
        out = np.zeros(len(x))
        inner = half // 2
        shape = (
            np.convolve(np.ones(2 * inner + 1), np.ones(2 * (half - inner) + 1)) if triangle else np.ones(2 * half + 1)
        )
        top, bottom = (np.convolve(v, shape, "same") for v in (x * m, m.astype(float)))
        np.divide(top, bottom, out=out, where=bottom > 0.5)
        return out

    def divide(weights):
        out = np.zeros(data.shape)
        for k in range(len(data)):
            if mask[k].any():
                w = np.maximum(weights[k], 1e-6 * np.median(np.asarray(weights[k])[mask[k]]))
                np.divide(data[k], w, out=out[k], where=mask[k] & (w > 0))
        return out

    envelope = np.abs(scipy.signal.hilbert(data, N=scipy.fft.next_fast_len(data.shape[1], real=True)))[
        :, : data.shape[1]
    ]
    envelope = envelope * mask
    if n.method == "none":
        return data
    if n.method == "one-bit":
        return np.sign(data) if n.per == "channel" else divide(share(np.abs(data)))
    if n.method == "running-absolute-mean":
        source = data
        if n.band_hz is not None:
            source = np.array([filtered(x, n.band_hz, rate) for x in data]) * mask
        return divide(share(np.array([smooth(np.abs(x), m) for x, m in zip(source, mask, strict=True)])))
    if n.method == "envelope":
        return divide(share(np.array([smooth(e, m) for e, m in zip(envelope, mask, strict=True)])))
    if n.method == "gain":
        rms = [np.sqrt(np.maximum(smooth(x**2, m, triangle=True), 0)) for x, m in zip(data, mask, strict=True)]
        return divide(share(np.array(rms)))
    if n.method == "clip":
        size = [np.sqrt(np.mean(x[m] ** 2)) for x, m in zip(data, mask, strict=True)]
        limits = np.array(size) * n.clip_n
        if n.per == "station":
            limits[:] = limits.mean()
        return np.array([np.clip(x, -limit, limit) for x, limit in zip(data, limits, strict=True)])
    size = share(envelope)
    return np.array(
        [np.where(e > n.mute_factor * np.median(e[m]), 0, x) for x, e, m in zip(data, size, mask, strict=True)]
    )


def filtered(x, band, rate):
    sos = scipy.signal.butter(4, band, "bandpass", fs=rate, output="sos")
    pad = round(50 * rate / band[0])
    padded = np.concatenate([np.zeros(pad), x, np.zeros(pad)])
    return scipy.signal.sosfilt(sos, scipy.signal.sosfilt(sos, padded)[::-1])[::-1][pad:-pad]


def whitened(spectra, s, band, frequency):
    """Whiten the spectra [channel, bin] of a window; 0 out of band, without the taper."""
    w = s.whiten
    inside = (frequency >= band[0] - 1e-9) & (frequency <= band[1] + 1e-9)
    size = np.abs(spectra)
    if w.per == "station":
        present = [a for a in size if a[inside].any()]
        size = np.array([np.mean(present, axis=0)] * len(spectra)) if present else size
    out = np.zeros(spectra.shape, complex)
    for k in range(len(spectra)):
        if w.method == "none":
            out[k, inside] = spectra[k, inside]
        elif w.method == "phase":
            use = inside & (size[k] > 0)
            out[k, use] = spectra[k, use] / size[k, use]
        elif size[k, inside].any():
            smooth = running(size[k, inside], s, s.smooth_hz(w), frequency)
            out[k, inside] = spectra[k, inside] / np.maximum(smooth, 1e-3 * smooth.mean())
    return out


def running(values, s, width_hz, frequency):
    n = max(0, round((width_hz / frequency[1] - 1) / 2))
    return np.array([values[max(0, k - n) : k + n + 1].mean() for k in range(len(values))])


def lags(spectrum, nfft, m):
    time = np.fft.irfft(spectrum, nfft)
    return np.concatenate([time[nfft - m :], time[: m + 1]])


def direct(x1, x2, m):
    """sum_t conj(x1(t)) x2(t + tau)."""
    size = len(x1)
    return np.array([
        np.sum(np.conj(x1[max(0, -k) : size - max(0, k)]) * x2[max(0, k) : size + min(0, k)]) for k in range(-m, m + 1)
    ])  # fmt: skip


def series(raw, s, band=None, events=()):
    """Correlate raw traces {station: {component: samples}} under settings; returns {(i, j, pair): ([piece, lag], n)}.

    ``events`` in seconds from the start of the first chunk.
    """
    band = band or s.whiten_band_hz
    stations, letters = list(raw), s.components
    size = round(s.data.chunk_s * RATE)
    total = len(next(iter(raw[stations[0]].values())))
    found = {}
    for chunk in range(-(-total // size)):
        part = slice(chunk * size, (chunk + 1) * size)
        later = [(a - chunk * s.data.chunk_s, b - chunk * s.data.chunk_s) for a, b in events]
        made = {}
        for name in stations:
            chunks = [np.asarray(raw[name][c], float)[part] for c in letters]
            traces = [conditioned(x, s) for x in chunks]
            data, mask = np.array([d for d, _ in traces]), np.array([m for _, m in traces])
            good = np.array([accepted(d, m, x, s, later) for (d, m), x in zip(traces, chunks, strict=True)])
            if s.rotates or "station" in (s.normalize.per, s.whiten.per):
                good[:] = good.all(axis=0)
            made[name] = normalized(data, mask, s) * mask, mask, good
        for (i, a), (j, b) in itertools.product(enumerate(stations), repeat=2):
            if j < i or (i == j and not s.correlate.autocorrelations):
                continue
            for pair in s.component_pairs:
                ends = letters.index(pair[0]), letters.index(pair[1])
                for values, n in pieces(made[a], made[b], ends, s, band, i == j and ends[0] == ends[1]):
                    found.setdefault((i, j, pair), ([], []))
                    found[i, j, pair][0].append(values)
                    found[i, j, pair][1].append(n)
    return {key: (np.array(c), np.array(n)) for key, (c, n) in found.items()}


def pieces(first, second, ends, s, band, itself):
    cuts = positions(s, first[0].shape[1])
    per_piece = s.substack_s * s.condition.rate_hz
    numbers = np.array([int(k.start // per_piece) for k in cuts])
    for piece in range(s.data.chunk_s // s.substack_s):
        both = [
            k for k, p, g1, g2 in zip(cuts, numbers, first[2][ends[0]], second[2][ends[1]], strict=True)
            if p == piece and g1 and g2
        ]  # fmt: skip
        m = round(s.correlate.max_lag_s * s.condition.rate_hz)
        yield (
            estimate(first, second, ends, both, s, band, itself, m) if both else np.full(2 * m + 1, np.nan),
            len(both),
        )


def estimate(first, second, ends, both, s, band, itself, m):
    method, rate = s.correlate.method, s.condition.rate_hz
    length = both[0].stop - both[0].start
    nfft = scipy.fft.next_fast_len(length + m, real=True)
    frequency = np.arange(nfft // 2 + 1) * rate / nfft
    taper = (
        reference.taper(frequency, band, s.taper_hz(band))
        if s.taper_hz(band)
        else ((frequency >= band[0] - 1e-9) & (frequency <= band[1] + 1e-9)).astype(float)
    )
    masks = [first[1][ends[0]], second[1][ends[1]]]
    counts = sum(direct(masks[0][k].astype(float), masks[1][k].astype(float), m) for k in both)
    if method == "phase":
        total = 0
        fast = scipy.fft.next_fast_len(first[0].shape[1], real=True)
        for k in both:
            phasors = []
            for (data, mask, _), end in zip((first, second), ends, strict=True):
                signal = scipy.signal.hilbert(data[end], N=fast)[: data.shape[1]]
                size = np.abs(signal)
                phasors.append(np.where(mask[end] & (size > 0), signal / np.where(size > 0, size, 1), 0)[k])
            total = total + direct(*phasors, m).real
        return scaled(total / counts, s, None)
    spectra = []
    for station, end in ((first, ends[0]), (second, ends[1])):
        every = [np.fft.rfft(station[0][:, k], nfft) / np.sqrt(length) for k in both]
        flat = itself and method == "cross-correlation" and not s.correlate.whiten_autocorrelations
        white = [np.where(taper > 0, x, 0) if flat else whitened(x, s, band, frequency) for x in every]
        spectra.append(np.array([w[end] for w in white]))
    inside = (frequency >= band[0] - 1e-9) & (frequency <= band[1] + 1e-9)
    x1, x2 = (x * inside for x in spectra)
    s12 = np.mean(np.conj(x1) * x2, axis=0)
    if method in ("coherency", "deconvolution"):
        powers = [np.zeros(len(frequency)) for _ in range(2)]
        for power, x in zip(powers, (x1, x2), strict=True):
            power[inside] = running(np.mean(np.abs(x[:, inside]) ** 2, axis=0), s, s.smooth_hz(s.correlate), frequency)
        low = powers[0] + s.correlate.water_level * powers[0][inside].mean()
        scale = np.sqrt(powers[0] * powers[1]) if method == "coherency" else low
        ratio_ = np.zeros(len(frequency), complex)
        ratio_[inside] = s12[inside] / scale[inside]
        return scaled(lags(ratio_ * taper**2, nfft, m), s, None)
    values = lags(s12 * taper**2, nfft, m)
    unbiased = s.whiten.method == "none"
    if unbiased:
        values = values * len(both) * length / counts
    energies = [np.mean([np.sum(np.fft.irfft(row * taper, nfft) ** 2) for row in x]) for x in (x1, x2)]
    if unbiased:
        energies = [
            e * len(both) * length / sum(mask[k].sum() for k in both) for e, mask in zip(energies, masks, strict=True)
        ]
    return scaled(values, s, energies)


def scaled(values, s, energies):
    if s.correlate.amplitude == "peak":
        return values / np.abs(values).max()
    if s.correlate.amplitude == "energy":
        return values / np.sqrt(energies[0] * energies[1])
    return values
