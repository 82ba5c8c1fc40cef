"""A finished run behind HTTP, as Ray Serve runs it. Imports Ray Serve, which is an extra.

POST /predict  JSON --RawForm--> examples --batches of all requests--> answers --> JSON
GET /health    the run and its task
"""

import asyncio
from typing import Any

from ray import serve
from ray.serve._private import replica
from starlette.requests import Request
from starlette.responses import JSONResponse

from reforge.corpora.labelled import Example
from reforge.runs.answers import Answer, answer_all
from reforge.runs.predictor import load_predictor
from reforge.runs.raw_examples import TEXTS, RawForm
from reforge.spec import UserError

MAX_BATCH, BATCH_WAIT_SECONDS = 128, 0.005


class Answering:
    """Answers requests for the run in the folder `run`."""

    def __init__(self, run: str) -> None:
        _listen_on_loopback()
        self.predictor = load_predictor(run)
        self.form = RawForm.of(self.predictor)

    async def __call__(self, request: Request) -> JSONResponse:
        """The answer to one request, whatever its path."""
        match request.method, request.url.path:
            case "POST", "/predict":
                return await self._predict(request)
            case "GET", "/health":
                return JSONResponse(
                    {"status": "ok", "run": str(self.predictor.folder.path), "task": self.predictor.kind}
                )
            case _, "/predict" | "/health":
                return _refused(405, f"{request.url.path} does not take {request.method}: POST /predict, GET /health")
        return _refused(404, f"there is no {request.url.path}: POST /predict, GET /health")

    async def _predict(self, request: Request) -> JSONResponse:
        try:
            body = await request.json()
            examples = self.form.examples(body)
        except (ValueError, RecursionError) as error:  # json's own, and text that is not UTF-8
            return _refused(400, f"the body is not JSON: {error}")
        except UserError as error:
            return _refused(400, str(error))
        answers = await asyncio.gather(*(self._answer(example) for example in examples))
        return JSONResponse({"answers": answers} if TEXTS in body else answers[0])

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=BATCH_WAIT_SECONDS)  # type: ignore[untyped-decorator]
    async def _answer(self, examples: list[Example]) -> list[Answer]:
        """One example for the caller, those of many requests here; off the event loop, so that /health answers."""
        return await asyncio.to_thread(lambda: list(answer_all(self.predictor, examples)))


def _listen_on_loopback() -> None:
    """Serve opens a port of each replica, for calls between deployments, at every address of the machine.

    It is opened after the replica was made, takes pickles from whoever has the token, and is of no use here.
    """
    add_port = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: add_port(server, address.replace("[::]", "127.0.0.1"))


def _refused(status: int, why: str) -> JSONResponse:
    return JSONResponse({"error": why}, status_code=status)


def application(run: str, num_cpus: int, num_gpus: float) -> Any:
    """The application for Serve: one replica on the given share of the machine."""
    options = {"num_cpus": num_cpus, "num_gpus": num_gpus}
    return serve.deployment(name="answering", ray_actor_options=options, max_ongoing_requests=4 * MAX_BATCH)(
        Answering
    ).bind(run)
