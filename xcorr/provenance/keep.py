"""Selective storage: intermediate items that pass a rule are kept while the run goes on, with their provenance."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xcorr.core import Observer, Plan
from xcorr.core.errors import nearest
from xcorr.core.files import rename_synced
from xcorr.core.observe import InstanceStatistics
from xcorr.core.product import Product
from xcorr.provenance.destination import Destination, is_address, sha256
from xcorr.provenance.recorder import metadata_of
from xcorr.provenance.store import INSERTS, ProvenanceError, create, worker_file
from xcorr.results.where import Where
from xcorr.settings.tables import Keep
from xcorr.store.folder import recorded_hash

Products = Mapping[str, Mapping[str, Product]]  # by element and port


def check_rules(rules: Sequence[Keep], products: Products) -> list[Where]:
    """Return the conditions of rules. ``products`` are those of every element whose items can be kept.

    Raises ProvenanceError for an unknown element or port, ConditionError for an unknown field or operator, ArchiveError
    for an address that cannot be opened.
    """
    conditions = []
    for rule in rules:
        if rule.element not in products:
            raise ProvenanceError(
                f"keep.element = {rule.element!r}: is no element whose items can be kept"
                f"{nearest(rule.element, products)}; there are {', '.join(products)}"
            )
        of_element = products[rule.element]
        if rule.port not in of_element:
            raise ProvenanceError(
                f"keep.port = {rule.port!r}: {rule.element} has the port {', '.join(of_element)!r} alone"
            )
        if is_address(rule.folder):
            Destination(rule.folder)  # raises an error now if it cannot be opened
        fields = of_element[rule.port].metadata
        conditions.append(Where(rule.condition, fields))
        conditions[-1]({name: kind() for name, kind in fields.items()})  # can its values be compared?
    return conditions


def products_of(elements: Iterable[tuple[str, Any]]) -> dict[str, Mapping[str, Product]]:
    """Return the products of elements, or of element classes, by name. Elements without products are left out."""
    return {name: element.products for name, element in elements if element.products}


class KeepItems(Observer):
    """Keeps the items that rules ask for, each in the folder of its rule, relative to the campaign.

    At an address, each campaign has a folder of its own, named after the campaign and its settings.
    """

    def __init__(self, campaign: Path, run: int, rules: Sequence[Keep]) -> None:
        self.campaign, self.run, self.rules = campaign, run, tuple(rules)
        self.name = f"{campaign.name.removesuffix('.xcorr')}-{recorded_hash(campaign)[:8]}"

    def at_work(self, plan: Plan, worker: int) -> Observer:
        """Return the keeper of a worker."""
        return _OfWorker(self, worker, products_of((node.name, node.element) for node in plan.nodes))


class _OfWorker(Observer):
    def __init__(self, of: KeepItems, worker: int, products: Products) -> None:
        self.of, self.worker, self.products = of, worker, products
        self._stores: dict[str, Destination] = {}
        self.rules = list(zip(of.rules, check_rules(of.rules, products), strict=True))

    def wrote(self, statistics: InstanceStatistics, port: str, item: Any) -> None:
        """Keep an item if a rule says so."""
        for rule, condition in self.rules:
            if (rule.element, rule.port) != (statistics.element, port):
                continue
            product = self.products[rule.element][port]
            if isinstance(item, product.kind) and condition(metadata_of(item)):
                self._keep(rule, f"{rule.element}.{port}:{item.identity}", item, product)

    def _keep(self, rule: Keep, name: str, item: Any, product: Product) -> None:
        file = item.identity.replace("/", "_") + product.suffix
        far = is_address(rule.folder)
        folder = self.of.campaign / ("kept" if far else rule.folder) / rule.element
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{file}.{os.getpid()}.part"
        product.write(item, temporary)
        digest, size = sha256(temporary), temporary.stat().st_size
        inside = f"{self.of.name}/{rule.element}/{file}"
        path = f"{rule.folder.rstrip('/')}/{inside}" if far else str(folder / file)
        if far:  # before the row, which must not name a file that does not exist
            self._far(rule.folder).put(temporary, inside)
            temporary.unlink()
        else:
            rename_synced(temporary, folder / file)
        text = f"{rule.element}.{rule.port} where {rule.condition or 'always'}"
        database = create(worker_file(self.of.campaign, self.of.run, self.worker), indexed=False)
        try:
            row = self.of.run, name, path, size, digest, text
            database.execute(INSERTS["kept"].replace("IGNORE", "REPLACE"), row)
        finally:
            database.close()

    def _far(self, place: str) -> Destination:
        """Return an object store, opened once by each worker."""
        if place not in self._stores:
            self._stores[place] = Destination(place)
        return self._stores[place]
