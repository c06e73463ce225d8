# A policy for Envoy's OPA plugin, in Rego v0 (.manifest says so), as it was found: only its prose became comments.
package envoy.authz

import input.attributes.request.http as http_request

default allow = false

# Allow access to the payment API only if:
# 1. The caller has a valid SPIFFE ID from the 'billing' namespace
# 2. The HTTP method is POST
# 3. The caller's certificate is not expired
allow {
	is_post
	is_billing_service
	not certificate_expired
}

is_post = http_request.method == "POST"

is_billing_service {
	# Extract SPIFFE ID from the X-Forwarded-Client-Cert header
	cert_data := http_request.headers["x-forwarded-client-cert"]
	contains(cert_data, "URI=spiffe://example.org/ns/billing/")
}

certificate_expired {
	# Check current time vs cert expiration (simplified logic)
	time.now_ns() > input.attributes.source.certificate_expiration
}
