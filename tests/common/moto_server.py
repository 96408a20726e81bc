"""An S3 server in memory that checks signatures and policies, for as long as its standard input stays open.

usage: moto_server.py [--conditional-parts]

moto looks at the condition of a put and puts in two steps, between which another thread may come: here one put is done at a time.
It ignores If-Match when an upload in parts is completed, as some stores do. With the option it keeps it, as Amazon does: the condition
is looked at here, before moto's own code.

Each line of input is a command as JSON, each answer a line of JSON; the first line of output says where the server is.
  {"policy": …}      makes a user who may do that, and says the user's keys
  {"role": …}        makes a role that may do that, and says keys of somebody who took it on, with their token
  {"checks": false}  lets everybody in (and true: as before)
"""

import json
import os
import sys
import threading

os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "0"
os.environ.setdefault("AWS_DEFAULT_REGION", "eu-central-1")

import logging

logging.getLogger("werkzeug").setLevel(logging.ERROR)

from moto import settings
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.authorization import ActionAuthenticatorMixin
from moto.iam.models import iam_backends
from moto.s3.exceptions import PreconditionFailed
from moto.s3.responses import S3Response
from moto.sts.models import sts_backends
from moto.server import ThreadedMotoServer


def make_user(number, policy):
    backend = iam_backends[DEFAULT_ACCOUNT_ID]["aws"]
    name = f"user{number}"
    backend.create_user("eu-central-1", name)
    backend.put_user_policy(name, "policy", json.dumps(policy))
    key = backend.create_access_key(name)
    return {"id": key.access_key_id, "secret": key.secret_access_key}


def take_role(number, policy):
    backend, name = iam_backends[DEFAULT_ACCOUNT_ID]["aws"], f"role{number}"
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}]}
    role = backend.create_role(name, json.dumps(trust), "/", None, "", [], "3600")
    backend.put_role_policy(name, "policy", json.dumps(policy))
    sts = sts_backends[DEFAULT_ACCOUNT_ID]["aws"]
    taken = sts.assume_role(
        region_name="eu-central-1", role_session_name="s", role_arn=role.arn, policy=None, duration=3600, external_id=None
    )
    return {"id": taken.access_key_id, "secret": taken.secret_access_key, "token": taken.session_token}


def put_one_at_a_time():
    lock = threading.RLock()

    def locked(original):
        def call(*arguments, **named):
            with lock:
                return original(*arguments, **named)

        return call

    for name in ("_key_response_put", "_key_response_post"):
        setattr(S3Response, name, locked(getattr(S3Response, name)))


def keep_if_match_of_parts():
    original = S3Response._key_response_post

    def post(self, request, body, bucket_name, query, key_name):
        wanted = self.headers.get("If-Match")
        if query.get("uploadId") and wanted is not None:
            key = self.backend.get_object(bucket_name, key_name)
            if key is None or key.etag != wanted:
                raise PreconditionFailed("If-Match")
        return original(self, request, body, bucket_name, query, key_name)

    S3Response._key_response_post = post


def write_in_one_step():
    """moto looks at a condition and then writes; between the two another thread may write."""
    original, one_at_a_time = S3Response.put_object, threading.Lock()

    def put_object(self):
        with one_at_a_time:
            return original(self)

    S3Response.put_object = put_object


def main():
    write_in_one_step()
    if "--conditional-parts" in sys.argv:
        keep_if_match_of_parts()
    put_one_at_a_time()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    print(json.dumps({"port": server.get_host_and_port()[1]}), flush=True)
    for number, line in enumerate(sys.stdin):
        command = json.loads(line)
        if "policy" in command:
            answer = make_user(number, command["policy"])
        elif "role" in command:
            answer = take_role(number, command["role"])
        else:
            settings.INITIAL_NO_AUTH_ACTION_COUNT = 0 if command["checks"] else float("inf")
            ActionAuthenticatorMixin.request_count = 0
            answer = {}
        print(json.dumps(answer), flush=True)
    # Threads of the server may hold on to a connection.
    os._exit(0)


main()
