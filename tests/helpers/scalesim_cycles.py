"""Cycles of products by the SCALE-Sim package; run as a script, because the package leaves its files open.

Arguments: folder with arch.cfg, topology.csv and layout.csv. Prints a JSON list of cycles, one a layer: the rows of its
demand matrices, one a cycle, less the one that its own report leaves out.
"""

import json
import sys
from importlib import import_module
from pathlib import Path

from scalesim.compute.operand_matrix import operand_matrix
from scalesim.layout_utils import layouts
from scalesim.scale_config import scale_config
from scalesim.topology_utils import topologies


def main(folder):
    config, topology, layout = scale_config(), topologies(), layouts()
    config.read_conf_file(str(folder / "arch.cfg"))
    topology.load_arrays(str(folder / "topology.csv"), mnk_inputs=True)
    layout.load_arrays(layoutfile=str(folder / "layout.csv"), mnk_inputs=True)
    flow = config.get_dataflow()
    compute = getattr(import_module(f"scalesim.compute.systolic_compute_{flow}"), f"systolic_compute_{flow}")
    cycles = []
    for layer in range(topology.get_num_layers()):
        operands, array = operand_matrix(), compute()
        operands.set_params(config_obj=config, topoutil_obj=topology, layoututil_obj=layout, layer_id=layer)
        matrices = (operands.get_ifmap_matrix(), operands.get_filter_matrix(), operands.get_ofmap_matrix())
        names = ("ifmap_op_mat", "filter_op_mat", "ofmap_op_mat")
        array.set_params(config_obj=config, **dict(zip(names, (matrix for _, matrix in matrices), strict=True)))
        cycles.append(len(array.get_demand_matrices()[0]) - 1)
    sys.stdout.write(json.dumps(cycles))


main(Path(sys.argv[1]))
