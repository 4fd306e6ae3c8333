from cc_bridge.testing.scripted_model import *
