package envoy.authz_test

import data.envoy.authz

now_ns := 1795426200000000000

payment := {"attributes": {
	"source": {"certificate_expiration": now_ns + 1},
	"request": {"http": {
		"method": "POST",
		"headers": {"x-forwarded-client-cert": "By=spiffe://example.org/pay;URI=spiffe://example.org/ns/billing/sa/web"},
	}},
}}

decide(change) {
	authz.allow with input as object.union(payment, {"attributes": change}) with time.now_ns as now_ns
}

test_billing_posts {
	decide({})
}

test_get_is_denied {
	not decide({"request": {"http": {"method": "GET"}}})
}

test_other_namespaces_are_denied {
	not decide({"request": {"http": {"headers": {"x-forwarded-client-cert": "URI=spiffe://example.org/ns/web/sa/a"}}}})
}

test_an_expired_certificate_is_denied {
	not decide({"source": {"certificate_expiration": now_ns - 1}})
}
