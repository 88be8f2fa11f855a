"""Every error that sqlembed raises, in one tree.

::

    SqlembedError
    ├── InputError              what was passed cannot be used
    │   ├── TextTooLongError    more tokens than the model reads
    │   ├── VectorError         not a vector, or not of this space
    │   └── OptionError         an option nobody knows, or a bad value
    ├── NotFoundError           no such model, index, table or column
    ├── ModelError              the weights cannot be used
    │   ├── ModelMissingError   not on this machine yet
    │   ├── ModelFileError      truncated, altered, or not a GGUF
    │   ├── ProbeError          loads, but gives other vectors than its reference
    │   └── ServerError         its server does not answer, refuses, or answers nonsense
    ├── AnswerCutError          a generated text ended before its end, and nobody asked for less
    ├── BusyError               not now: too much waits, or the database is in use
    ├── ClientGoneError         whoever waited for the answer has left
    ├── SpaceError              vectors of two embedding spaces would meet
    ├── SchemaError             the database cannot hold, or lost, what an index needs
    └── ServiceError            the service refuses, cannot be started, or does not answer

A message says what it is about, what came, what was expected, and what to do.
"""


class SqlembedError(Exception):
    """The root: catch this to catch everything of ours."""


class InputError(SqlembedError):
    """What was passed cannot be used."""


class TextTooLongError(InputError):
    """A text has more tokens than the model reads, and cutting was not asked for."""


class VectorError(InputError):
    """A BLOB is not a vector, or has another width, or holds NaN or only zeros."""


class OptionError(InputError):
    """An option is unknown, or its value is not one of those allowed."""


class NotFoundError(SqlembedError):
    """A model, index, table or column of that name does not exist."""


class ModelError(SqlembedError):
    """A model's weights cannot be used."""


class ModelMissingError(ModelError):
    """The model is known, but its weights are not on this machine."""


class ModelFileError(ModelError):
    """A weights file is truncated, altered, or not what it should be."""


class ProbeError(ModelError):
    """A model loads, but its vectors differ from those of its reference."""


class ServerError(ModelError):
    """A model's server does not answer, refuses, or gives what is no answer."""


class AnswerCutError(SqlembedError):
    """A generated text was cut where nobody set that bound, or where only the whole is of use."""


class BusyError(SqlembedError):
    """Not now: so much waits that no more was taken on, or the database is in use."""


class ClientGoneError(SqlembedError):
    """A client of the service went away before its texts were computed."""


class SpaceError(SqlembedError):
    """Two embedding spaces would be compared, which means nothing."""


class SchemaError(SqlembedError):
    """The database cannot hold what an index needs, or has lost part of it."""


class ServiceError(SqlembedError):
    """The service refuses this program, cannot be started, or does not answer."""
