# Makes the exchanges of a plan with Net::HTTP and prints what it got.
#
#     client.rb URL PLAN
#
# A plan has one exchange a line: method, target, body ("-", "length" or "chunked") and header fields, with tabs between.

require "net/http"
require "stringio"

BODY = "hello, \0 and goodbye\r\n"

base, plan = ARGV
Net::HTTP.start(base.delete_prefix("http://"), 80) do |http|
  File.foreach(plan, chomp: true) do |line|
    method, target, kind, *fields = line.split("\t")
    request = Net::HTTPGenericRequest.new(method, kind != "-", method != "HEAD", target)
    fields.each { |field| request.add_field(*field.split(": ", 2)) }
    request["Content-Type"] = "text/plain" if kind != "-"
    request.body = BODY if kind == "length"
    if kind == "chunked"
      request["Transfer-Encoding"] = "chunked"
      request.body_stream = StringIO.new(BODY)
    end
    response = http.request(request)
    puts "#{method} #{target} #{response.code} #{response.body.inspect}"
  end
end
