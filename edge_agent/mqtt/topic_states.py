"""What is known of one topic that the broker may refuse: its states, what happens to it, and what follows.

A topic is OPEN until something speaks against it. Some brokers end the connection with a refusal, or in place of one,
so a topic is suspected (SUSPECT) before it counts as refused (the six states on the right). PROVEN exists only in
careful mode (careful_mode.py). A topic on which the broker answers nothing is MUTE, and holds up no other topic again:
within seconds a message on it counts as harmless, and until then as the only one that may end the connection.

A cell is the state that follows; with `.` the topic stays in its state. Behind the state stands the action: `!` tell
that the topic is refused, `*` tell that a refused topic is accepted and ask the other refused ones, `^` begin careful
mode. A test compares this table with `TRANSITIONS`.

    event        OPEN      PROVEN    SUSPECT   MUTE      REFUSED  RETRY      AGAIN      ENDS       ENDS_RETRY ENDS_AGAIN
    TAKEN        .         .         OPEN      OPEN      OPEN*    OPEN*      OPEN*      OPEN*      OPEN*      OPEN*
    PROVED       PROVEN    .         PROVEN    PROVEN    PROVEN*  PROVEN*    PROVEN*    PROVEN*    PROVEN*    PROVEN*
    DENIED       REFUSED!  REFUSED!  ENDS!     REFUSED!  AGAIN    AGAIN      .          ENDS_AGAIN ENDS_AGAIN .
    ENDED_ALONE  SUSPECT   SUSPECT   ENDS!     SUSPECT   ENDS     ENDS_RETRY ENDS_AGAIN ENDS_AGAIN ENDS_AGAIN .
    ENDED_LIKELY SUSPECT   SUSPECT   .         SUSPECT   ENDS     ENDS_RETRY ENDS_AGAIN .          .          .
    TURN         .         .         .         .         RETRY    .          RETRY      ENDS_RETRY .          ENDS_RETRY
    OTHER_TAKEN  .         .         .         .         RETRY    .          .          ENDS_RETRY .          .
    SENT         .         .         .         .         .        REFUSED    .          .          ENDS^      .
    NEW_MINUTE   .         .         .         .         .        .          REFUSED    .          .          ENDS
    CARE_TURNED  .         OPEN      .         .         .        .          .          .          .          .
    FORGOTTEN    .         .         OPEN      OPEN      OPEN     OPEN       OPEN       OPEN       OPEN       OPEN
    SILENCE      MUTE      MUTE      MUTE      .         MUTE     MUTE       MUTE       MUTE       MUTE       MUTE
"""

from __future__ import annotations

from enum import Enum, auto

__all__ = ["ASKABLE", "REFUSED_STATES", "SUSPECTED_STATES", "TRANSITIONS", "TopicAction", "TopicEvent", "TopicState"]


class TopicState(Enum):
    """What is known of a topic."""

    OPEN = auto()
    """Nothing speaks against the topic."""
    PROVEN = auto()
    """The broker has taken a message on the topic since careful mode began."""
    SUSPECT = auto()
    """A connection ended, perhaps because of this topic."""
    MUTE = auto()
    """No answer to a message on the topic came within a minute, and the connection did not end either."""
    REFUSED = auto()
    """Refused by an answer of the broker; the topic waits for its turn."""
    RETRY = auto()
    """As REFUSED, and one message may go to ask again."""
    AGAIN = auto()
    """As REFUSED, and refused once more in this minute."""
    ENDS = auto()
    """Refused, and the broker ends the connection for the topic; the topic waits for its turn."""
    ENDS_RETRY = auto()
    """As ENDS, and one message may go to ask again."""
    ENDS_AGAIN = auto()
    """As ENDS, and refused once more in this minute."""


class TopicEvent(Enum):
    """What happens to a topic."""

    TAKEN = auto()
    """The broker has taken a message on the topic."""
    PROVED = auto()
    """As TAKEN, in careful mode."""
    DENIED = auto()
    """The broker has answered that it refuses a message on the topic, or the subscription."""
    ENDED_ALONE = auto()
    """The broker ended the connection while messages on no other topic were unanswered."""
    ENDED_LIKELY = auto()
    """The broker ended the connection, most likely for this topic: right behind its answer that refused the topic, or
    behind a message at QoS 0 while else only one on a MUTE topic may have ended it."""
    TURN = auto()
    """The topic is one of those to be asked in this minute, or nothing was learnt from asking it."""
    OTHER_TAKEN = auto()
    """The broker has accepted another topic that it had refused."""
    SENT = auto()
    """A message on the topic was handed over."""
    NEW_MINUTE = auto()
    """A minute begins in which refused topics are asked again."""
    CARE_TURNED = auto()
    """Careful mode begins anew, or ends."""
    FORGOTTEN = auto()
    """There is nothing to send on the topic any more."""
    SILENCE = auto()
    """A minute has passed without an answer to a message on the topic."""


class TopicAction(Enum):
    """What else has to be done with a transition; the values are the marks in the module's table."""

    TELL_REFUSED = "!"
    ASK_OTHERS = "*"
    BE_CAREFUL = "^"


_S, _E, _A = TopicState, TopicEvent, TopicAction

TRANSITIONS: dict[tuple[TopicState, TopicEvent], tuple[TopicState, TopicAction | None]] = {
    (_S.SUSPECT, _E.TAKEN): (_S.OPEN, None),
    (_S.MUTE, _E.TAKEN): (_S.OPEN, None),
    (_S.REFUSED, _E.TAKEN): (_S.OPEN, _A.ASK_OTHERS),
    (_S.RETRY, _E.TAKEN): (_S.OPEN, _A.ASK_OTHERS),
    (_S.AGAIN, _E.TAKEN): (_S.OPEN, _A.ASK_OTHERS),
    (_S.ENDS, _E.TAKEN): (_S.OPEN, _A.ASK_OTHERS),
    (_S.ENDS_RETRY, _E.TAKEN): (_S.OPEN, _A.ASK_OTHERS),
    (_S.ENDS_AGAIN, _E.TAKEN): (_S.OPEN, _A.ASK_OTHERS),
    (_S.OPEN, _E.PROVED): (_S.PROVEN, None),
    (_S.SUSPECT, _E.PROVED): (_S.PROVEN, None),
    (_S.MUTE, _E.PROVED): (_S.PROVEN, None),
    (_S.REFUSED, _E.PROVED): (_S.PROVEN, _A.ASK_OTHERS),
    (_S.RETRY, _E.PROVED): (_S.PROVEN, _A.ASK_OTHERS),
    (_S.AGAIN, _E.PROVED): (_S.PROVEN, _A.ASK_OTHERS),
    (_S.ENDS, _E.PROVED): (_S.PROVEN, _A.ASK_OTHERS),
    (_S.ENDS_RETRY, _E.PROVED): (_S.PROVEN, _A.ASK_OTHERS),
    (_S.ENDS_AGAIN, _E.PROVED): (_S.PROVEN, _A.ASK_OTHERS),
    (_S.OPEN, _E.DENIED): (_S.REFUSED, _A.TELL_REFUSED),
    (_S.PROVEN, _E.DENIED): (_S.REFUSED, _A.TELL_REFUSED),
    (_S.SUSPECT, _E.DENIED): (_S.ENDS, _A.TELL_REFUSED),
    (_S.MUTE, _E.DENIED): (_S.REFUSED, _A.TELL_REFUSED),
    (_S.REFUSED, _E.DENIED): (_S.AGAIN, None),
    (_S.RETRY, _E.DENIED): (_S.AGAIN, None),
    (_S.ENDS, _E.DENIED): (_S.ENDS_AGAIN, None),
    (_S.ENDS_RETRY, _E.DENIED): (_S.ENDS_AGAIN, None),
    (_S.OPEN, _E.ENDED_ALONE): (_S.SUSPECT, None),
    (_S.PROVEN, _E.ENDED_ALONE): (_S.SUSPECT, None),
    (_S.SUSPECT, _E.ENDED_ALONE): (_S.ENDS, _A.TELL_REFUSED),
    (_S.MUTE, _E.ENDED_ALONE): (_S.SUSPECT, None),
    (_S.REFUSED, _E.ENDED_ALONE): (_S.ENDS, None),
    (_S.RETRY, _E.ENDED_ALONE): (_S.ENDS_RETRY, None),
    (_S.AGAIN, _E.ENDED_ALONE): (_S.ENDS_AGAIN, None),
    (_S.ENDS, _E.ENDED_ALONE): (_S.ENDS_AGAIN, None),
    (_S.ENDS_RETRY, _E.ENDED_ALONE): (_S.ENDS_AGAIN, None),
    (_S.OPEN, _E.ENDED_LIKELY): (_S.SUSPECT, None),
    (_S.PROVEN, _E.ENDED_LIKELY): (_S.SUSPECT, None),
    (_S.MUTE, _E.ENDED_LIKELY): (_S.SUSPECT, None),
    (_S.REFUSED, _E.ENDED_LIKELY): (_S.ENDS, None),
    (_S.RETRY, _E.ENDED_LIKELY): (_S.ENDS_RETRY, None),
    (_S.AGAIN, _E.ENDED_LIKELY): (_S.ENDS_AGAIN, None),
    (_S.REFUSED, _E.TURN): (_S.RETRY, None),
    (_S.AGAIN, _E.TURN): (_S.RETRY, None),
    (_S.ENDS, _E.TURN): (_S.ENDS_RETRY, None),
    (_S.ENDS_AGAIN, _E.TURN): (_S.ENDS_RETRY, None),
    (_S.REFUSED, _E.OTHER_TAKEN): (_S.RETRY, None),
    (_S.ENDS, _E.OTHER_TAKEN): (_S.ENDS_RETRY, None),
    (_S.RETRY, _E.SENT): (_S.REFUSED, None),
    (_S.ENDS_RETRY, _E.SENT): (_S.ENDS, _A.BE_CAREFUL),
    (_S.AGAIN, _E.NEW_MINUTE): (_S.REFUSED, None),
    (_S.ENDS_AGAIN, _E.NEW_MINUTE): (_S.ENDS, None),
    (_S.PROVEN, _E.CARE_TURNED): (_S.OPEN, None),
    (_S.SUSPECT, _E.FORGOTTEN): (_S.OPEN, None),
    (_S.MUTE, _E.FORGOTTEN): (_S.OPEN, None),
    (_S.REFUSED, _E.FORGOTTEN): (_S.OPEN, None),
    (_S.RETRY, _E.FORGOTTEN): (_S.OPEN, None),
    (_S.AGAIN, _E.FORGOTTEN): (_S.OPEN, None),
    (_S.ENDS, _E.FORGOTTEN): (_S.OPEN, None),
    (_S.ENDS_RETRY, _E.FORGOTTEN): (_S.OPEN, None),
    (_S.ENDS_AGAIN, _E.FORGOTTEN): (_S.OPEN, None),
    (_S.OPEN, _E.SILENCE): (_S.MUTE, None),
    (_S.PROVEN, _E.SILENCE): (_S.MUTE, None),
    (_S.SUSPECT, _E.SILENCE): (_S.MUTE, None),
    (_S.REFUSED, _E.SILENCE): (_S.MUTE, None),
    (_S.RETRY, _E.SILENCE): (_S.MUTE, None),
    (_S.AGAIN, _E.SILENCE): (_S.MUTE, None),
    (_S.ENDS, _E.SILENCE): (_S.MUTE, None),
    (_S.ENDS_RETRY, _E.SILENCE): (_S.MUTE, None),
    (_S.ENDS_AGAIN, _E.SILENCE): (_S.MUTE, None),
}
"""What is not here changes nothing."""

# Tuples, because `in` compares members by identity there; the hash of an enum's member is computed in Python.
REFUSED_STATES = (_S.REFUSED, _S.RETRY, _S.AGAIN, _S.ENDS, _S.ENDS_RETRY, _S.ENDS_AGAIN)
SUSPECTED_STATES = (_S.SUSPECT, _S.ENDS, _S.ENDS_RETRY, _S.ENDS_AGAIN)
"""In these the topic may be what ends connections."""
ASKABLE = (_S.OPEN, _S.PROVEN, _S.SUSPECT, _S.MUTE, _S.RETRY, _S.ENDS_RETRY)
"""In these a message may be sent on the topic; MUTE has to wait until careful mode is over."""
