"""The bank of texts whose best matches in an index show what chance finds there.

Short phrases such as people search with, spread over what there is to ask for: things, living
beings, places, people and what they do, events, looks, feelings, ideas. Any one of them may well
be in an index; most are in no small one, and `background` does not let the others mislead it.
"""

from __future__ import annotations

BANK = """
an accordion, a wooden ladder, a pair of scissors, a garden hose, a rusty nail, a fishing rod, a
chess board, a typewriter, a sewing machine, an umbrella stand, a bar of soap, a toothbrush, a lawn
mower, a suitcase with wheels, a set of keys, a broken mirror, a pocket knife, a compass, a candle
on a windowsill, a paper lantern, an old radio, a vacuum cleaner, a ceiling fan, a hammock, a
wheelbarrow full of sand, a chain saw, a screwdriver, a box of matches, an hourglass, a wallet, a
mailbox, a traffic cone, a fire hydrant, a parking meter, a street lamp at night, a manhole cover,
a vending machine, a cash register, a shopping trolley, a bar code, a credit card, a stack of
money, a telescope, a microscope, a thermometer, a syringe, a stethoscope, a wheelchair, a pair of
crutches, a bandage, a bottle of pills, an X-ray of a hand, a dentist at work, an operating room, a
violin, a grand piano, a drum kit, a trumpet, a harmonica, a saxophone player, a record player, a
choir singing, a conductor with a baton, a microphone stand, headphones, a loudspeaker, a laptop, a
keyboard, a circuit board, a printer, a server rack, a pile of cables, a robot arm, a light bulb, a
solar panel, a wind turbine, a power plant, an oil rig, a coal mine, a steel mill, a crane on a
building site, a bulldozer, a dump truck, a concrete mixer, scaffolding, a brick layer, a hot air
balloon, a helicopter, a fighter jet, a glider, an airport terminal, a cockpit, a parachute, a
submarine, a cargo ship, a sailing boat, a canoe on a river, a lighthouse, a harbour with cranes,
an anchor, a life buoy, a ferry, a steam train, a tram, an underground station, railway tracks, a
school bus, a fire engine, an ambulance, a police car, a taxi in the rain, a tractor, a caravan, a
scooter, a skateboard, roller skates, a unicycle, a tandem, a racing car, a traffic jam, a car
wash, a flat tyre, a petrol station, a toll booth, a motorway at night, a roundabout, a car park, a
tunnel, a suspension bridge, an aqueduct, a dam, a canal lock, a windmill, a water tower, a
skyscraper, a log cabin, an igloo, a tent in the woods, a castle, a palace, a pyramid, a temple, a
mosque, a synagogue, a cathedral window, a graveyard, a monument, a ruined wall, a dome, a spiral
stair, a balcony with flowers, a red door, a chimney, a thatched roof, a greenhouse, a barn, a
well, a fence, a living room, a bathroom sink, a bunk bed, a fireplace, a bookshelf, a wardrobe, an
empty corridor, a lift, a basement, an attic full of boxes, a garage, a workshop bench, a
classroom, a lecture hall, a library, a laboratory, a hospital bed, a court room, a prison cell, a
hotel lobby, a swimming pool, a bowling alley, a gymnasium, a stadium, a theatre stage, a cinema, a
museum gallery, a night club, a supermarket shelf, a market stall, a bakery, a butcher, a
hairdresser, a flower shop, a pharmacy, a pizza, a bowl of soup, sushi, a hamburger, fried eggs, a
loaf of bread, a cheese board, pancakes, spaghetti with tomato sauce, a salad, roast chicken, a
lobster, a barbecue, ice cream, chocolate, a wedding cake, doughnuts, a jar of honey, a pot of jam,
breakfast cereal, a tin of beans, garlic, mushrooms in a basket, a pumpkin, a pineapple, a bunch of
grapes, a lemon cut in half, strawberries, a bowl of cherries, a watermelon, an onion, chilli
peppers, a sack of potatoes, corn on the cob, a pint of beer, a cocktail with an olive, a bottle of
champagne, orange juice, a teapot, milk in a jug, a corkscrew, a frying pan, a rolling pin, a chef
cooking, a dishwasher, a table set for dinner, an elephant, a giraffe, a lion asleep, a tiger, a
zebra, a rhinoceros, a hippopotamus, a camel, a kangaroo, a koala, a panda, a polar bear, a wolf, a
fox in the snow, a deer, a moose, a squirrel, a hedgehog, a bat, a mouse, a beaver, an otter, a
badger, a goat, a flock of sheep, a pig, a cow, a donkey, a chimpanzee, a gorilla, a sloth, a
hamster, a guinea pig, a puppy, a sheepdog, a poodle, an eagle, an owl, a parrot, a penguin, a
flamingo, a peacock, a swan, a duck, a hen with chicks, a pigeon, a seagull, a hummingbird, a
woodpecker, a crow, a nest with eggs, a feather, a crocodile, a snake, a lizard, a tortoise, a
frog, a salamander, a chameleon, a dinosaur skeleton, a shark, a whale, a dolphin, a seal, an
octopus, a jellyfish, a crab, a starfish, a sea shell, coral, a goldfish bowl, a salmon, a school
of fish, an aquarium, a butterfly, a bee on a flower, an ant, a spider, a dragonfly, a ladybird, a
snail, a worm, a caterpillar, a mosquito, a scorpion, a beetle, a rose, a tulip field, a sunflower,
a cactus, a palm tree, an oak, a pine forest, a bamboo grove, ivy, moss on a stone, a fern,
seaweed, a water lily, dandelion seeds, autumn leaves, cherry blossom, a vineyard, a wheat field, a
rice terrace, an orchard, a hedge maze, a bonsai, a bouquet, a wreath, hay bales, a desert, sand
dunes, an oasis, a canyon, a volcano erupting, a glacier, an iceberg, a cave, a cliff, a waterfall,
a hot spring, a swamp, a coral reef, a tropical island, a fjord, a frozen lake, a river delta, a
mountain hut, a ski slope, a valley in fog, a rainbow, a thunderstorm, lightning, a tornado, a hail
storm, a blizzard, frost on a window, an icicle, a puddle, a sunrise, the northern lights, a solar
eclipse, a comet, a planet with rings, a satellite dish, a space station, the earth from above, a
meteor crater, a flood, an earthquake, a forest fire, an avalanche, a shipwreck, a plane crash, a
landslide, a drought, a newborn baby, twins, a toddler with a ball, a teenager, a grandmother
knitting, an old man with a beard, a bride, a pregnant woman, a family at the table, two people
kissing, friends hugging, a man in a suit, a woman in a red dress, a person wearing a mask, a
clown, a nun, a monk, a king, a soldier, a sailor, a pilot, a firefighter, a policeman, a nurse, a
surgeon, a teacher, a judge, a farmer, a fisherman, a carpenter, a welder, a plumber, an
electrician, a waiter, a barber, a postman, a street cleaner, a painter at an easel, a sculptor, a
potter, a weaver, a photographer, a ballet dancer, a magician, an acrobat, a juggler, a beggar, a
tourist with a map, a politician giving a speech, a queue of people, a crowd at a concert, a
protest march, a parade, a funeral, a baptism, a graduation, a birthday party, a christmas tree,
fireworks, a carnival, a bonfire, halloween, a picnic, a camp fire, a garden party, someone
running, someone asleep, a person crying, people laughing, a man shouting, a woman reading, someone
washing dishes, someone painting a wall, a child drawing, a girl on a swing, boys climbing a tree,
shaking hands, clapping, waving goodbye, pointing at something, brushing hair, putting on shoes,
cutting paper, folding clothes, ironing a shirt, mopping the floor, digging a hole, planting a
seed, watering plants, chopping wood, carrying a box, pushing a cart, opening a door, climbing a
ladder, a football match, a tennis serve, a basketball hoop, a golf swing, a boxing match, judo,
fencing, archery, a marathon, a high jump, gymnastics on the rings, swimming butterfly, diving from
a board, surfing, windsurfing, rowing, water polo, ice hockey, figure skating, a ski jump,
snowboarding, sledging, rock climbing, bungee jumping, paragliding, horse racing, a bullfight, a
rodeo, cricket, baseball, rugby, volleyball on the beach, table tennis, darts, billiards, a card
game, dice, a jigsaw puzzle, a kite, a teddy bear, a doll, a toy train, building blocks, a yo-yo, a
balloon, soap bubbles, a sandcastle, a carousel, a roller coaster, a ferris wheel, a puppet show, a
circus tent, a playground slide, a wedding ring, a necklace, a wrist watch, a crown, earrings, a
handbag, a leather boot, high heels, a straw hat, a scarf, gloves, a tie, a pair of jeans, a
raincoat, a swimsuit, a kimono, a uniform, a helmet, a tattoo, long hair, a beard, a moustache,
glasses, lipstick, nail polish, a smile with no teeth, a hand, a foot, an ear, a blue eye, a
skeleton, a skull, a heart, a brain, blood cells, a scar, a map of the world, a flag, a road sign,
a newspaper, a comic strip, a postage stamp, a menu, a calendar, a bar chart, a blueprint, sheet
music, a handwritten letter, graffiti, a neon sign, a poster, a passport, a screenshot of a
program, a video game, a weather forecast, a news reader, credits of a film, a cartoon, an oil
painting, a watercolour, a charcoal sketch, a marble statue, a mosaic, a tapestry, stained glass, a
vase, a clay pot, a carpet, a quilt, a basket, a silver spoon, a porcelain cup, origami, something
red, something round, bright yellow, dark and blurry, black and white, stripes, polka dots, a
spiral, a grid of lines, a triangle, a shadow, a reflection in water, smoke, steam, fire, dust in
the air, rust, cracked paint, a pile of rubbish, a plastic bag, barbed wire, a rope with a knot, a
chain, a spring, a gear wheel, a magnet, a mirror ball, a crystal, a gold bar, a diamond, a lump of
coal, an old coin purse, silence, loneliness, hope, jealousy, a bad dream, the fear of heights,
growing old, falling in love, freedom of speech, an election, inflation, a tax return, an insurance
claim, a job interview, a meeting, a mathematical proof, quantum physics, the theory of evolution,
a chemical reaction, a philosophy book, the history of rome, a fairy tale, a detective story, a
love poem, a prayer, a promise, a lie, a secret, democracy, justice, poverty, war and peace, a
peace treaty, climate change, artificial intelligence, a software bug, a password, an email from
the bank, a phone call, a login page, a traffic report, the smell of rain, the taste of salt, a
loud noise, a gentle breeze, a cold morning, a long journey, last summer, once upon a time, how to
tie a tie, why the sky is blue, where we met, my first day at school, good morning everyone, thank
you very much, it is too late, we should go home, what time is it, a surprise, an accident, a
mistake, a victory, an argument, an apology, a joke, a rumour, a habit
"""


def unrelated_texts() -> list[str]:
    """The 715 texts, each once."""
    return [" ".join(text.split()) for text in BANK.split(",")]
