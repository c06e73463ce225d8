# Hours of the day in a time zone. Copy the file into your own bundle and import data.picket.lib.hours.
package picket.lib.hours

weekdays := {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday"}

# between(time_ns, "Europe/Berlin", 9, 17) holds from 09:00 to 16:59 on that zone's wall clocks.
between(time_ns, zone, first, end) if {
	[hour, _, _] := time.clock([time_ns, zone])
	hour >= first
	hour < end
}

on_weekday(time_ns, zone) if time.weekday([time_ns, zone]) in weekdays
