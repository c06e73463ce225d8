package picket.lib_test

import data.picket.lib.hours
import data.picket.lib.spiffe

id := "spiffe://example.org/ns/billing/sa/web"

test_trust_domain if {
	spiffe.trust_domain(id) == "example.org"
	not spiffe.trust_domain("https://example.org/")
}

test_in_path_ends_at_a_segment if {
	spiffe.in_path(id, "/ns/billing")
	spiffe.in_path(id, "/ns/billing/sa/web")
	not spiffe.in_path(id, "/ns/bill")
	not spiffe.in_path("spiffe://example.org", "/ns")
}

# Monday, 23 November 2026, 09:30 UTC.
monday_ns := 1795426200000000000

test_between_reads_the_clock_of_the_zone if {
	hours.between(monday_ns, "Europe/Berlin", 10, 11)
	not hours.between(monday_ns, "Europe/Berlin", 9, 10)
	not hours.between(monday_ns, "UTC", 0, 9)
}

test_on_weekday if {
	hours.on_weekday(monday_ns, "UTC")
	not hours.on_weekday(monday_ns - 86400000000000, "UTC")

	# Sunday evening in UTC is Monday morning in Auckland.
	hours.on_weekday(monday_ns - (14 * 3600000000000), "Pacific/Auckland")
}
