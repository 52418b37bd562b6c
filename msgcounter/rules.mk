# msgcounter/: call table and generator, stub, handles, counters, order and payload log
