"""Archives for the evaluation servers of Cityscapes and ADE20K."""

from hrseg.submit.servers import SERVERS, Server
from hrseg.submit.write import Submission, submit

__all__ = ["SERVERS", "Server", "Submission", "submit"]
