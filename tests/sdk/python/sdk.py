"""The providers' own SDKs behind one small protocol, for tests/gateway/sdk.rs.

The same protocol as in ../node/sdk.mjs: a question is one line of JSON on standard input, its
answer one line on standard output.
"""

import base64
import hashlib
import json
import sys
import time
import traceback
from datetime import datetime, timezone
from importlib.metadata import version
from uuid import uuid4


class Box:
    package = "boxsdk"

    def sign(self, secret, body, **_):
        from box_sdk_gen.internal.utils import compute_webhook_signature

        headers = {
            "box-delivery-id": str(uuid4()),
            "box-delivery-timestamp": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "box-signature-algorithm": "HmacSHA256",
            "box-signature-version": "1",
        }
        headers["box-signature-primary"] = compute_webhook_signature(body, headers, secret)
        return headers

    def judge(self, secret, headers, body, **_):
        from box_sdk_gen.managers.webhooks import WebhooksManager

        return WebhooksManager.validate_message(body, headers, secret)


class CoinbaseCommerce:
    package = "coinbase-commerce"

    def judge(self, secret, headers, body, **_):
        from coinbase_commerce.webhook import Webhook

        Webhook.construct_event(body, headers["x-cc-webhook-signature"], secret)
        return True


class FusionAuth:
    """FusionAuth has no SDK that looks at webhooks: its tokens are any JWT library's matter."""

    package = "PyJWT"

    def sign(self, secret, body, **_):
        import jwt

        claims = {"iat": int(time.time()), "request_body_sha256": self.digest(body)}
        return {"x-fusionauth-signature-jwt": jwt.encode(claims, secret, algorithm="HS256")}

    def judge(self, secret, headers, body, **_):
        import jwt

        token = headers["x-fusionauth-signature-jwt"]
        claims = jwt.decode(token, secret, algorithms=["HS256"])
        return claims["request_body_sha256"] == self.digest(body)

    @staticmethod
    def digest(body):
        return base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()


class HubSpot:
    package = "hubspot-api-client"

    def __init__(self, signature_version):
        self.signature_version = signature_version

    def sign(self, secret, url, body, **_):
        from hubspot.utils.signature import Signature

        at = str(time.time_ns() // 1_000_000)
        signature = Signature.get_signature(secret, body, self.signature_version, url, "POST", at)
        if self.signature_version == "v3":
            return {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": at}
        return {
            "x-hubspot-signature": signature,
            "x-hubspot-signature-version": self.signature_version,
        }

    def judge(self, secret, url, headers, body, **_):
        from hubspot.utils.signature import Signature

        is_v3 = self.signature_version == "v3"
        return Signature.is_valid(
            headers["x-hubspot-signature-v3" if is_v3 else "x-hubspot-signature"],
            secret,
            body,
            url,
            "POST",
            self.signature_version,
            headers.get("x-hubspot-request-timestamp"),
        )


class Slack:
    package = "slack_sdk"

    def sign(self, secret, body, **_):
        from slack_sdk.signature import SignatureVerifier

        at = str(int(time.time()))
        signature = SignatureVerifier(secret).generate_signature(timestamp=at, body=body)
        return {"x-slack-request-timestamp": at, "x-slack-signature": signature}

    def judge(self, secret, headers, body, **_):
        from slack_sdk.signature import SignatureVerifier

        return SignatureVerifier(secret).is_valid_request(body, headers)


class Square:
    package = "squareup"

    def judge(self, secret, url, headers, body, **_):
        from square.utils.webhooks_helper import verify_signature

        return verify_signature(
            request_body=body,
            signature_header=headers["x-square-hmacsha256-signature"],
            signature_key=secret,
            notification_url=url,
        )


PROVIDERS = {
    "box": Box(),
    "coinbase_commerce": CoinbaseCommerce(),
    "fusionauth_hmac": FusionAuth(),
    "hubspot_v1": HubSpot("v1"),
    "hubspot_v2": HubSpot("v2"),
    "hubspot_v3": HubSpot("v3"),
    "slack": Slack(),
    "square": Square(),
}


def answer(question):
    provider = PROVIDERS[question["provider"]]
    sdk = f"{provider.package} {version(provider.package)}"
    match question["ask"]:
        case "sign":
            headers = question["headers"] | provider.sign(**question)
            request = {"url": question["url"], "headers": headers, "body": question["body"]}
            return {"sdk": sdk, "requests": [request]}
        case "judge":
            # An SDK says no by an answer or by an exception; which words it chooses is its own.
            try:
                return {"sdk": sdk, "genuine": bool(provider.judge(**question))}
            except Exception as error:
                return {"sdk": sdk, "genuine": False, "why": repr(error)}
        case other:
            raise ValueError(f"nobody can {other}")


def main():
    for line in sys.stdin:
        try:
            said = answer(json.loads(line))
        except Exception:
            said = {"error": traceback.format_exc()}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
