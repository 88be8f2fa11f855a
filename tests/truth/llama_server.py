"""llama.cpp's own server on loopback, for ``test_server.py``: MODEL PORT KEY (rank).

Runs in an environment of its own, which has xllamacpp. It ends with its input.
"""

import sys

import xllamacpp

path, port, key, *rank = sys.argv[1:]
parameters = xllamacpp.CommonParams()
parameters.model.path = path
parameters.embedding = True
parameters.hostnames = ["127.0.0.1"]
parameters.port = int(port)
parameters.api_keys = [key]
parameters.n_parallel = 2
parameters.n_ctx = 1024
parameters.n_batch = parameters.n_ubatch = 512
parameters.n_gpu_layers = 0
parameters.cpuparams.n_threads = 1
if rank:
    parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
server = xllamacpp.Server(parameters)
print(server.listening_address, flush=True)
sys.stdin.read()
