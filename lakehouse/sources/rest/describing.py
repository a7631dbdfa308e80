"""Asking an exchange for its description of all its markets: one request, outside the budget of rows."""

from lakehouse.exchanges.api import ExchangeInfo, RestApi
from lakehouse.model.foreign_json import read_json
from lakehouse.model.text import plain


def describe(api: RestApi) -> ExchangeInfo:
    """An exchange's description of all its markets of one type.

    Raises:
        OSError: The API does not answer, or not with that.
    """
    # a fifth of a second that reading files never needs
    from lakehouse.sources.rest.bounded import rest_bounds, session

    call = api.info_call()
    with session(rest_bounds(call.url)) as asking:
        # its errors are OSErrors
        answer = asking.get(call.url, timeout=(5, 30), params=dict(call.params))
    answer.raise_for_status()
    try:
        return api.read_info(read_json(answer.content, half_characters=True))
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise OSError(f"{call.url} did not answer with an exchangeInfo: {plain(repr(error))}") from error
