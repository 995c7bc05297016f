"""What models cost, by ``genai-prices``: loaded beside the application, and asked once it is there."""

from __future__ import annotations

import _thread
import importlib
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from otel_llm_sessions import forks
from otel_llm_sessions.bounded import Bounded
from otel_llm_sessions.guard import pass_on, report, say
from otel_llm_sessions.telemetry.cost import amount_of

PACKAGE: Final = "genai_prices"

PROVIDERS: Final[Mapping[str, str]] = {
    "anthropic": "anthropic",
    "aws.bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "gcp.gemini": "google",
    "gcp.vertex_ai": "google",
    "groq": "groq",
    "mistral_ai": "mistral",
    "moonshot_ai": "moonshotai",
    "openai": "openai",
    "perplexity": "perplexity",
    "x_ai": "x-ai",
}
"""The package's names of providers, by ``gen_ai.provider.name``."""

MAX_MODELS: Final = 256
"""How many names of models are remembered, with their prices or as unknown: visitors may choose them."""

IDLE, LOADING, TORN, DONE = range(4)


class Prices:
    """Prices that are there some time after ``load`` was called, or never."""

    def __init__(self) -> None:
        self.book: Book | None = None
        """The prices, once they are there."""
        self._state = IDLE
        forks.renew_in_child(self)

    def after_fork_in_child(self) -> None:
        """Note that what was being loaded never will be: the thread stays with the parent."""
        if self._state == LOADING:
            self._state = TORN

    def load(self) -> None:
        """Have the prices loaded, by a thread that nobody waits for; does nothing the second time."""
        if self._state not in (IDLE, TORN):
            return
        is_torn, self._state = self._state == TORN, LOADING
        try:
            start_thread(self._load, is_torn)
        except Exception as error:  # no thread to spare, or the interpreter ends
            self._state = DONE
            report("load the prices", error)

    def amount(
        self, provider: Any, models: Iterable[Any], counts: Mapping[str, int], context: Mapping[str, str]
    ) -> float | None:
        """Return what a call cost, in US dollars; None where no price is known, or not yet.

        Args:
            provider: ``gen_ai.provider.name``.
            models: the names of its model; the first that has prices counts.
            counts: how many of the package's units were used, by their names.
            context: what else prices depend on, by the package's names.
        """
        book = self.book
        if book is None:
            if self._state == TORN:
                self.load()
            return None
        try:
            return book.amount(PROVIDERS.get(provider), models, counts, context)
        except (LookupError, ValueError) as error:  # counts that do not go together, as more cached than sent
            pass_on(error)
        except Exception as error:
            report("compute a cost", error)
        return None

    def _load(self, is_torn: bool) -> None:
        try:
            if is_torn:
                forget_torn_imports(PACKAGE)
            self.book = Book()
        except ModuleNotFoundError as error:
            self._give_up("is not installed: pip install genai-prices" if error.name == PACKAGE else error)
        except Exception as error:
            self._give_up(error)
        self._state = DONE

    def _give_up(self, why: object) -> None:
        if isinstance(why, Exception):
            why = f"cannot be used ({type(why).__name__}: {why})"
        say(
            logging.WARNING,
            "OTEL_LLM_SESSIONS_COST=prices: genai-prices %s. What replies do not say themselves is not computed.",
            why,
        )


class Book:
    """The prices themselves."""

    def __init__(self) -> None:
        """Load the package, which takes a while.

        Raises:
            Exception: it is not there, or not as it is known here.
        """
        package = importlib.import_module(PACKAGE)
        self._usage = package.Usage
        self._snapshot = importlib.import_module(f"{PACKAGE}.data_snapshot").get_snapshot
        self._of: Any = None
        self._providers: dict[str, Any] = {}
        self.models: Bounded[tuple[str, str], Any] = Bounded(MAX_MODELS)
        """What is known of models by their provider's name and their own: None of those without prices."""
        self._turn_to(self._snapshot())
        self._usage(input_tokens=1, output_tokens=1)

    def amount(
        self, provider: str | None, models: Iterable[Any], counts: Mapping[str, int], context: Mapping[str, str]
    ) -> float | None:
        """Return what a call cost; see ``Prices.amount``."""
        if (snapshot := self._snapshot()) is not self._of:  # the application has the prices updated
            self._turn_to(snapshot)
        seller = self._providers.get(provider or "")
        if seller is None:
            return None
        for name in models:
            if isinstance(name, str) and (model := self._model(seller, name)) is not None:
                priced = model.calc_price(self._usage(**counts), seller, price_context=context or None)
                # A model without any prices is not known to cost nothing.
                known = any(price is not None for price in vars(priced.model_price).values())
                return amount_of(float(priced.total_price)) if known else None
        return None

    def _turn_to(self, snapshot: Any) -> None:
        self._providers = {provider.id: provider for provider in snapshot.providers}
        self.models.clear()
        self._of = snapshot

    def _model(self, seller: Any, name: str) -> Any:
        key = (seller.id, name)
        try:
            return self.models[key]
        except KeyError as error:
            pass_on(error)
        # The package's own way there remembers every name that it was ever asked for (0.2.3).
        model = seller.find_model(name, all_providers=[*self._providers.values()])
        self.models[key] = model
        return model


def start_thread(work: Callable[..., None], *arguments: Any) -> None:
    """Start a thread of the system's, also where gevent or eventlet make greenlets of them: to import yields to none.

    Raises:
        Exception: there is no thread to spare.
    """
    start: Callable[..., Any] = _thread.start_new_thread
    if (monkey := sys.modules.get("gevent.monkey")) is not None:
        start = monkey.get_original("_thread", "start_new_thread")
    elif (patcher := sys.modules.get("eventlet.patcher")) is not None:
        start = patcher.original("_thread").start_new_thread
    start(work, arguments)


def forget_torn_imports(package: str) -> None:
    """Have a package imported anew that a thread was importing when this process was forked.

    The child has neither the thread nor the rest of the modules; but it has the modules as far as they were, and locks
    that the thread would have to release (CPython 3.10 to 3.13), for which the next import waits for ever.
    """
    locks = getattr(sys.modules["_frozen_importlib"], "_module_locks", {})
    for name in [name for name in [*sys.modules, *locks] if name.partition(".")[0] == package]:
        locks.pop(name, None)
        if getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False):
            del sys.modules[name]
