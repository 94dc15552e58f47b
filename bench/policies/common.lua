--- What every policy here has in common: a listener on the port that is in the environment, and no limit that a load
--- from one address would meet.
---@param options moonpost.ServerOptions
return function(options)
  options.hostname = "bench.example.org"
  options.listen = "smtp://127.0.0.1:" .. assert(os.getenv("BENCH_PORT"))
  options.domains = { "example.org" }
  options.limits = options.limits or {}
  for _, name in ipairs { "messages", "connections", "connections_per_address", "size" } do
    options.limits[name] = 0
  end
  return require("moonpost").server(options)
end
