"""The Hugging Face Hub: whether it has a model, and gives it to this user."""

from dartune.errors import UserError


def is_cached(model: str, revision: str | None) -> bool:
    """Return whether a Hugging Face model was fetched before, so that it needs no network."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(model, "config.json", revision=revision), str)


def check_access(model: str, revision: str) -> None:
    """Raise UserError, within seconds, where the Hub cannot be reached or does not give a model to this user.

    Its own client would repeat the request for half a minute first.
    """
    import httpx
    from huggingface_hub import constants, get_token

    page, token = f"{constants.ENDPOINT}/{model}", get_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        status = httpx.head(f"{page}/resolve/{revision}/config.json", headers=headers, timeout=5).status_code
    except httpx.HTTPError as error:
        raise UserError(
            f"base.model: {model!r} is not on this machine, and {constants.ENDPOINT} cannot be reached ({error});"
            " fetch it where there is a network, or give a folder"
        ) from error
    if status in (401, 403):
        key = "the token in HF_TOKEN has no access" if token else "set HF_TOKEN to a token of yours"
        raise UserError(f"base.model: {model!r} is gated: accept its licence at {page}, and {key}")
    if status == 404:
        raise UserError(f"base.model: {page} has no commit {revision} with a config.json; look at its list of commits")
